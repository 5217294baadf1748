"""Purchases to send to the gateway: days that training has not used, or any folder of spans."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from models import spans
from models.errors import DataError
from models.fraud import purchases
from models.fraud.data import DAY_US, splits
from models.fraud.generator.drift import Drift
from models.fraud.generator.span_generator import Truth, generate

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
    data: str | None,
    source: str,
    cache: Path,
    bounds: tuple[int, int],
    drift: Sequence[str],
    settings: Mapping[str, Any],
    window: tuple[int, int] = (-1, -1),
) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Yield request bodies in order of time, each with its label and label time, or None where no label has arrived.

    Without ``data``, generated purchases are continued: the same customers and habits, new purchases. Of any other source the
    days that training held out are sent.

    Args:
        data: A folder of spans, sent as it is.
        source: The data of the last run, used without ``data``.
        cache: Folder for generated spans.
        bounds: First and last span to send; -1 for the ends of ``data``, the ``DAYS`` days after generated data, or the days
            that training held out.
        drift: ``KIND:SIZE@DAY`` to inject into generated purchases.
        settings: The data settings of the last run.
        window: First and last span of the last run.

    Raises:
        DataError: for spans that do not exist, or a drift that cannot be parsed or not be injected.
    """
    generator = None if data else read_generator_settings(source)
    if drift and not generator:
        raise DataError(f"--drift works only with generated purchases, and those in {data or source} are not.")
    (first, last), days = bounds, None
    if generator:
        first = generator["days"] if first < 0 else first
        last = first + DAYS - 1 if last < 0 else last
        data = str(generated(cache, last + 1, drift, {**settings, **generator}))
    elif not data and (first, last) == (-1, -1):
        (first, last), days = window, (splits(settings)["train"].stop, settings["last_day"])
    for table in purchases.read_spans(spans.select_window(Path(data or source), first, last).values(), settings):
        yield from _format_rows(_select_days(table, days) if days else table)


def _select_days(table: pa.Table, days: tuple[int, int]) -> pa.Table:
    """Return the purchases from the first to the last day, both in days since the epoch and included."""
    day = pc.cast(table["event_time"], pa.int64()).to_numpy() // DAY_US
    return table.filter(pa.array((day >= days[0]) & (day <= days[1])))


def _format_rows(table: pa.Table) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    now = datetime.now(UTC).replace(tzinfo=None)  # a label that will only be known later is left out
    for row in table.sort_by([("event_time", "ascending"), ("transaction_id", "ascending")]).to_pylist():
        label, label_time = None, row["label_time"]
        if row["is_fraud"] is not None and label_time is not None and not row["event_time"] <= now < label_time:
            label = {"label": row["is_fraud"], "label_time": label_time.isoformat()}
        yield {name: row[name] for name in SENT} | {"event_time": row["event_time"].isoformat()}, label


def renew(body: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return a purchase that differs from the given one only in its ids, so that it is scored again, with the same history.

    Args:
        body: The request body of the purchase.
        number: How many times it has been sent; 0 returns it unchanged.
    """
    suffix = f"-{number}" if number else ""
    return {**body, **{name: f"{body[name]}{suffix}" for name in ("transaction_id", "customer_id")}}


def check(answer: Mapping[str, Any]) -> str | None:
    """Describe the error of an answer, or None; its decision has to follow from its score."""
    if not 0 <= answer["score"] <= 1:
        return "a score outside 0..1"
    if (answer["decision"] == "stop") != (answer["score"] >= answer["threshold"]):
        return "a decision that does not follow from the score"
    return None


def read_generator_settings(source: str) -> dict[str, Any] | None:
    """Return the settings that generated a folder of spans, and its drift; None if the generator did not write it."""
    try:
        truth = Truth.read(Path(source))
    except (OSError, ValueError, TypeError):  # there is no manifest, or it is another program's
        return None
    drift = tuple(f"{change['kind']}:{change['size']:g}@{change['day']}" for change in truth.drift)
    return {"rows": truth.rows, "days": truth.days, "data_seed": truth.seed, "drift": drift}


def generated(cache: Path, days: int, drift: Sequence[str], settings: Mapping[str, Any]) -> Path:
    """Generate spans 0 to ``days`` - 1 with the training data's rows per day, so that customers and merchants are the same.

    The purchases have ids of their own, as those that the gateway has answered join the training data at a retraining.

    Args:
        cache: Folder for generated spans.
        days: Number of days, those of the training data included.
        drift: ``KIND:SIZE@DAY`` to inject, besides the drift of the training data.
        settings: The settings that generated the training data; see :func:`read_generator_settings`.
    """
    try:
        drifts = [Drift.parse(text) for text in (*settings.get("drift", ()), *drift)]
        suffix = "".join(f"-{text}" for text in sorted(map(str, drifts))).replace(":", "_").replace("@", "_")
        name = f"continuation-{settings['rows']}-{settings['days']}-{settings['data_seed']}-{days}{suffix}"
        folder = cache / name
        if not (folder / "truth.json").exists():
            rows = settings["rows"] // settings["days"] * days
            prefix = f"{purchases.stable_hash(name):08x}-"
            generate(folder, rows=rows, days=days, seed=settings["data_seed"], drift=drifts, id_prefix=prefix)
    except ValueError as error:
        raise DataError(str(error)) from error
    return folder
