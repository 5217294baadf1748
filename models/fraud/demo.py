"""The demonstration: its traffic and the policy that answers the drift in it, and the faults of its incidents."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from models.fraud.traffic import generated

# Frauds take up a new pattern while amounts rise, so that the inputs drift and the metric falls.
DRIFT = ("concept:0.8", "amount:1.3")
USUAL, DRIFTED, LATER = 2, 32, 8
# Fewer days of the new pattern than the case's own policy waits for. Among two months of the old pattern they would hardly
# change the model, and the FitGate would refuse it, so the window holds fewer old days.
POLICY = {"learn": "10", "spans": "70"}


class DemoTraffic(NamedTuple):
    """Traffic to replay.

    Attributes:
        folder: Folder of its spans.
        usual: Days without drift, like those of the training data.
        drifted: Days with drift, as many as ``POLICY`` waits for before a retraining, and one that is not complete.
        later: Further days with drift, for traffic during the retraining.
        labelled: Days whose labels have arrived at the end of the drifted days.
        drift: The drifts, as ``KIND:SIZE@DAY``.
    """

    folder: Path
    usual: range
    drifted: range
    later: range
    labelled: range
    drift: tuple[str, ...]


class BrokenSpans(NamedTuple):
    """Generated spans that the pipeline refuses.

    Attributes:
        summary: What is wrong with them.
        feature: Feature that the refusal names.
        change: The fault, as ``KIND:SIZE`` of the generator.
        first_day: First day with the fault.
        days: Number of days.
        rows: Number of rows.
        settings: Settings of a run on so few rows, as ``NAME=VALUE``.
    """

    summary: str
    feature: str
    change: str
    first_day: int
    days: int
    rows: int
    settings: tuple[str, ...]


class TrafficShift(NamedTuple):
    """A drift of live traffic that opens an incident within days.

    Attributes:
        summary: What changes.
        change: The drift, as ``KIND:SIZE`` of the generator.
        every: Every how many rows one is sent, which is enough to judge a day.
    """

    summary: str
    change: str
    every: int


BROKEN_SPANS = BrokenSpans(
    summary="half of the purchases have a category that is not in the schema",
    feature="category",
    change="unseen:0.5",
    first_day=10,
    days=40,
    rows=8_000,
    settings=("warmup_days=5", "embedding_epochs=1", "batch_size=64"),
)
SHIFT = TrafficShift(summary="seven of ten in-store purchases are made online instead", change="online:0.7", every=4)


def plan_traffic(cache: Path, settings: Mapping[str, Any]) -> DemoTraffic:
    """Return the days that follow the training data, generated on first use."""
    begins = settings["days"] + USUAL
    ends, drift = begins + DRIFTED, tuple(f"{change}@{begins}" for change in DRIFT)
    folder = generated(cache, ends + LATER, drift, settings)
    labelled = range(settings["days"], ends - settings["label_delay_days"])
    return DemoTraffic(
        folder=folder,
        usual=range(settings["days"], begins),
        drifted=range(begins, ends),
        later=range(ends, ends + LATER),
        labelled=labelled,
        drift=drift,
    )
