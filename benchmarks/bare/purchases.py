"""Purchases with their past, split by time, in Polars."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.bare.columns import LABEL, Arrays
from models.fraud.features import PAST
from models.fraud.history.point_in_time import DAY, LONGEST, RISK_PRIOR, SECOND, UNIT, WINDOWS


def read(data: Path, delay: int) -> pl.DataFrame:
    """All purchases; a label without a time counts as known ``delay`` days after its purchase."""
    if not any(data.glob("span-*/*.parquet")):
        raise ValueError(f"{data} has no span-NNN folder with Parquet files.")
    frame = pl.read_parquet(data / "span-*" / "*.parquet")
    late = pl.col("event_time") + pl.duration(days=delay)
    known = pl.when(pl.col(LABEL).is_not_null()).then(pl.coalesce("label_time", late))
    return frame.with_columns(known.alias("label_time")).with_columns(
        pl.col("event_time", "label_time").cast(pl.Datetime("us")).cast(pl.Int64),
        *(pl.col(who + "_id").rank("dense").cast(pl.Int64).sub(1).alias(who) for who in ("customer", "merchant")),
    )


def with_history(frame: pl.DataFrame, delay: int) -> pl.DataFrame:
    """The purchases by customer and time, with what was known of their past; times become seconds."""
    frame = frame.sort("customer", "event_time", "transaction_id")
    columns = _customers(frame) | _merchants(frame, delay)
    return frame.with_columns(*(pl.Series(name, values) for name, values in columns.items()))


def _customers(frame: pl.DataFrame) -> Arrays:
    """Windows over earlier purchases of the same customer, and the last ``PAST`` of them, oldest first."""
    code, times, merchant = (frame[name].to_numpy() for name in ("customer", "event_time", "merchant"))
    amount = np.nan_to_num(frame["amount"].to_numpy(), posinf=0.0, neginf=0.0)
    here, first = np.arange(len(code)), np.searchsorted(code, code)
    axis = code * (np.ptp(times) + LONGEST + 1) + times - times.min()
    total = np.concatenate([[0], np.cumsum(np.rint(amount * UNIT).astype(np.int64))])
    found = {}
    for days in WINDOWS:
        start = np.searchsorted(axis, axis - days * DAY)
        found[f"customer_count_{days}d"] = here - start
        found[f"customer_amount_{days}d"] = (total[here] - total[start]) / UNIT
    gap = np.where(here > first, times - times[here - 1], LONGEST)
    found["seconds_since_last"] = np.minimum(gap, LONGEST) / SECOND
    rows = here[:, None] + np.arange(-PAST, 0)
    there, rows = rows >= first[:, None], np.maximum(rows, 0)
    found["past_amount"] = np.where(there, amount[rows], 0)
    found["past_age"] = np.where(there, (times[:, None] - times[rows]) / SECOND, 0)
    floats = {name: values.astype(np.float32) for name, values in found.items()}
    return floats | {"past_merchant": np.where(there, merchant[rows], -1).astype(np.int32)}


def _merchants(frame: pl.DataFrame, delay: int) -> Arrays:
    """Purchases at the merchant over whole days that lie ``delay`` back, and the share known as fraud by now."""
    code, fraud = frame["merchant"].to_numpy(), frame.select((pl.col(LABEL) == 1).fill_null(False))[LABEL].to_numpy()
    today = frame["event_time"].to_numpy() // DAY
    known, today = frame["label_time"].fill_null(0).to_numpy() // DAY - today.min(), today - today.min()
    shape, found = (code.max() + 1, today.max() + 1), {}
    for days in WINDOWS:
        begin, end = today + delay + 1, today + delay + 1 + days
        count = _standing(shape, code, begin, end)[code, today]
        late = np.minimum(np.maximum(begin, known + 1), end)
        frauds = _standing(shape, code[fraud], late[fraud], end[fraud])[code, today]
        found[f"merchant_count_{days}d"] = count.astype(np.float32)
        found[f"merchant_risk_{days}d"] = (frauds / (count + RISK_PRIOR)).astype(np.float32)
    return found


def _standing(shape: tuple[int, int], code: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """How many of the intervals ``[begin, end)`` hold each merchant's each day, ``[merchants, days]``."""
    width = shape[1] + 1
    ends = [np.bincount(code * width + np.minimum(edge, shape[1]), minlength=shape[0] * width) for edge in (begin, end)]
    return (ends[0] - ends[1]).reshape(shape[0], width).cumsum(axis=1)


def split(frame: pl.DataFrame, settings: Mapping[str, Any]) -> dict[str, pl.DataFrame]:
    """Rows of each split by time, of those whose label was known in time: when eval begins, and for eval at the end."""
    day, delay = frame["event_time"] // DAY, settings["label_delay_days"]
    first, last = int(day.to_numpy().min()), int(day.to_numpy().max()) + 1
    start = first + settings["warmup_days"]
    held = last - delay - settings["eval_days"]
    valid = held - delay - settings["valid_days"]
    if valid <= start:
        raise ValueError(f"The window has {last - first} days, too few for warm-up, splits and label delays.")
    bounds = {"train": (start, valid, held), "valid": (valid, held - delay, held), "eval": (held, last - delay, last)}
    known = {
        name: frame[LABEL].is_not_null() & (frame["label_time"] <= as_of * DAY)
        for name, (_, _, as_of) in bounds.items()
    }
    frame = frame.with_columns(pl.col("event_time") // SECOND)
    return {name: frame.filter(known[name] & (day >= low) & (day < high)) for name, (low, high, _) in bounds.items()}
