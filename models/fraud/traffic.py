"""Purchases to send to the gateway: the days after the training data, or any folder of spans."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
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
    """Yield request bodies in order of time, each with its label and label time, or None where no label has arrived.

    Without ``data`` the generator continues after the training data: the same customers and habits, new purchases.

    Args:
        data: A folder of spans.
        source: The data of the last run; not used.
        cache: Folder for generated spans.
        first, last: First and last span; -1 for the day after the training data, and for ``DAYS`` days.
        drift: ``KIND:SIZE@DAY`` to inject into generated purchases.

    Raises:
        DataError: for spans that do not exist, or a drift that cannot be parsed.
    """
    if data and drift:
        raise DataError("--drift works only with generated purchases; leave out --data.")
    if not data:
        first = settings["days"] if first < 0 else first
        last = first + DAYS - 1 if last < 0 else last
        data = str(generated(cache, last + 1, drift, settings))
    now = datetime.now(UTC).replace(tzinfo=None)  # a label that will only be known later is left out
    for table in purchases.read_spans(spans.select_window(Path(data), first, last).values(), settings):
        for row in table.sort_by([("event_time", "ascending"), ("transaction_id", "ascending")]).to_pylist():
            label, label_time = None, row["label_time"]
            if row["is_fraud"] is not None and label_time is not None and not row["event_time"] <= now < label_time:
                label = {"label": row["is_fraud"], "label_time": label_time.isoformat()}
            yield {name: row[name] for name in SENT} | {"event_time": row["event_time"].isoformat()}, label


def check(answer: Mapping[str, Any]) -> str | None:
    """Describe the error of an answer, or None; its decision has to follow from its score."""
    if not 0 <= answer["score"] <= 1:
        return "a score outside 0..1"
    if (answer["decision"] == "stop") != (answer["score"] >= answer["threshold"]):
        return "a decision that does not follow from the score"
    return None


def generated(cache: Path, days: int, drift: Sequence[str], settings: Mapping[str, Any]) -> Path:
    """Generate spans 0 to ``days`` - 1 with the training data's rows per day, so that customers and merchants are the same."""
    try:
        drifts = [Drift.parse(text) for text in drift]
        suffix = "".join(f"-{text}" for text in sorted(map(str, drifts))).replace(":", "_").replace("@", "_")
        folder = cache / f"traffic-{settings['rows']}-{settings['days']}-{settings['data_seed']}-{days}{suffix}"
        if not (folder / "truth.json").exists():
            rows = settings["rows"] // settings["days"] * days
            generate(folder, rows=rows, days=days, seed=settings["data_seed"], drift=drifts)
    except ValueError as error:
        raise DataError(str(error)) from error
    return folder
