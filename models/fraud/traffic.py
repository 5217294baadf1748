"""Purchases to send to the gateway: the days after those that were learnt from, or anybody's spans."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models import spans
from models.errors import DataError
from models.fraud import purchases
from models.fraud.generator.drift import Drift
from models.fraud.generator.span_generator import generate

DAYS = 3
SENT = (
    "transaction_id",
    "event_time",
    "customer_id",
    "merchant_id",
    "amount",
    "category",
    "channel",
    "device",
    "distance_km",
)


def requests(
    data: str | None, source: str, cache: Path, first: int, last: int, drift: Sequence[str], settings: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Bodies in order of time, each with its label and when that became known, or None where none came.

    Without ``data`` the generator goes on after its last day: the same customers with the same habits, new purchases.

    Args:
        data: A folder of spans.
        source: The data of the last run; not used here.
        cache: Where generated spans are kept.
        first, last: Spans, both included; -1 for the day after what was learnt from, and ``DAYS`` days in all.
        drift: ``KIND:SIZE@DAY`` to put into generated purchases.

    Raises:
        DataError: for spans that are not there, or a drift that cannot be read.
    """
    if data and drift:
        raise DataError("--drift goes with generated purchases; leave out --data.")
    if not data:
        first = settings["days"] if first < 0 else first
        last = first + DAYS - 1 if last < 0 else last
        data = str(generated(cache, last + 1, drift, settings))
    for folder in spans.window(Path(data), first, last).values():
        table = purchases.read(str(folder), settings["columns"], settings["label_delay_days"])
        for row in table.sort_by([("event_time", "ascending"), ("transaction_id", "ascending")]).to_pylist():
            label = None
            if row["is_fraud"] is not None and row["label_time"] is not None:
                label = {"label": row["is_fraud"], "label_time": row["label_time"].isoformat()}
            yield {name: row[name] for name in SENT} | {"event_time": row["event_time"].isoformat()}, label


def check(answer: Mapping[str, Any]) -> str | None:
    """What is wrong with an answer: its decision has to follow from its score."""
    if not 0 <= answer["score"] <= 1:
        return "a score outside 0..1"
    if (answer["decision"] == "stop") != (answer["score"] >= answer["threshold"]):
        return "a decision that does not follow from the score"
    return None


def generated(cache: Path, days: int, drift: Sequence[str], settings: Mapping[str, Any]) -> Path:
    """Spans 0 to ``days`` - 1, as many rows a day as were learnt from: so that the world is the same."""
    try:
        wanted = [Drift.parse(one) for one in drift]
        words = "".join(f"-{one}" for one in sorted(map(str, wanted))).replace(":", "_").replace("@", "_")
        folder = cache / f"traffic-{settings['rows']}-{settings['days']}-{settings['data_seed']}-{days}{words}"
        if not (folder / "truth.json").exists():
            rows = settings["rows"] // settings["days"] * days
            generate(folder, rows=rows, days=days, seed=settings["data_seed"], drift=wanted)
    except ValueError as error:
        raise DataError(str(error)) from error
    return folder
