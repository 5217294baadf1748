"""What a demonstration shows of this case: traffic as usual, then a drift, and how soon that is answered."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from models.fraud.traffic import generated

DRIFT = (
    "concept:0.8",
    "amount:1.3",
)  # frauds take up a new pattern while amounts rise: inputs move and the metric falls
USUAL, DRIFTED, LATER = 2, 32, 8
# Fewer days of the new pattern than the case waits for. Among two months of the old they would teach hardly anything, and the
# FitGate would refuse that, so that less of the old is looked at.
POLICY = {"learn": "10", "spans": "70"}


class Shown(NamedTuple):
    """Traffic to replay.

    Attributes:
        folder: Its spans.
        usual: Days as those that were learnt from.
        drifted: Days after the drift has begun, as many as a retraining by ``POLICY`` waits for, and one that is not over.
        later: Further such days, for traffic while that goes on.
        labelled: Days whose labels have come when the drifted days are over.
        drift: What was put in, and when.
    """

    folder: Path
    usual: range
    drifted: range
    later: range
    labelled: range
    drift: tuple[str, ...]


def shown(cache: Path, settings: Mapping[str, Any]) -> Shown:
    """The days after those that were learnt from, generated on first use."""
    begins = settings["days"] + USUAL
    ends, drift = begins + DRIFTED, tuple(f"{one}@{begins}" for one in DRIFT)
    folder = generated(cache, ends + LATER, drift, settings)
    labelled = range(settings["days"], ends - settings["label_delay_days"])
    return Shown(
        folder, range(settings["days"], begins), range(begins, ends), range(ends, ends + LATER), labelled, drift
    )
