"""Purchases with their history, split by time, in Polars."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.bare.columns import LABEL, Arrays
from models.fraud.features import PAST
from models.fraud.history.point_in_time import DAY, LONGEST, RISK_PRIOR, SECOND, UNIT, WINDOWS


def read(data: Path, delay: int) -> pl.DataFrame:
    """Read all purchases; a label without a time counts as known ``delay`` days after its purchase."""
    if not any(data.glob("span-*/*.parquet")):
        raise ValueError(f"{data} has no span-NNN folder with Parquet files.")
    frame = pl.read_parquet(data / "span-*" / "*.parquet")
    late = pl.col("event_time") + pl.duration(days=delay)
    label_time = pl.when(pl.col(LABEL).is_not_null()).then(pl.coalesce("label_time", late))
    return frame.with_columns(label_time.alias("label_time")).with_columns(
        pl.col("event_time", "label_time").cast(pl.Datetime("us")).cast(pl.Int64),
        *(
            pl.col(entity + "_id").rank("dense").cast(pl.Int64).sub(1).alias(entity)
            for entity in ("customer", "merchant")
        ),
    )


def add_history(frame: pl.DataFrame, delay: int) -> pl.DataFrame:
    """Sort purchases by customer and time and add their history features; times become seconds."""
    frame = frame.sort("customer", "event_time", "transaction_id")
    columns = _compute_customer_features(frame) | _compute_merchant_features(frame, delay)
    return frame.with_columns(*(pl.Series(name, values) for name, values in columns.items()))


def _compute_customer_features(frame: pl.DataFrame) -> Arrays:
    """Compute windows over earlier purchases of the same customer, and the last ``PAST`` of them, oldest first."""
    code, times, merchant = (frame[name].to_numpy() for name in ("customer", "event_time", "merchant"))
    amount = np.nan_to_num(frame["amount"].to_numpy(), posinf=0.0, neginf=0.0)
    row_index, first = np.arange(len(code)), np.searchsorted(code, code)
    axis = code * (np.ptp(times) + LONGEST + 1) + times - times.min()
    total = np.concatenate([[0], np.cumsum(np.rint(amount * UNIT).astype(np.int64))])
    features = {}
    for days in WINDOWS:
        start = np.searchsorted(axis, axis - days * DAY)
        features[f"customer_count_{days}d"] = row_index - start
        features[f"customer_amount_{days}d"] = (total[row_index] - total[start]) / UNIT
    gap = np.where(row_index > first, times - times[row_index - 1], LONGEST)
    features["seconds_since_last"] = np.minimum(gap, LONGEST) / SECOND
    rows = row_index[:, None] + np.arange(-PAST, 0)
    exists, rows = rows >= first[:, None], np.maximum(rows, 0)
    features["past_amount"] = np.where(exists, amount[rows], 0)
    features["past_age"] = np.where(exists, (times[:, None] - times[rows]) / SECOND, 0)
    floats = {name: values.astype(np.float32) for name, values in features.items()}
    return floats | {"past_merchant": np.where(exists, merchant[rows], -1).astype(np.int32)}


def _compute_merchant_features(frame: pl.DataFrame, delay: int) -> Arrays:
    """Count purchases at the merchant over whole days ``delay`` days ago, and the share known as fraud by now."""
    code, fraud = frame["merchant"].to_numpy(), frame.select((pl.col(LABEL) == 1).fill_null(False))[LABEL].to_numpy()
    today = frame["event_time"].to_numpy() // DAY
    label_day, today = frame["label_time"].fill_null(0).to_numpy() // DAY - today.min(), today - today.min()
    shape, features = (code.max() + 1, today.max() + 1), {}
    for days in WINDOWS:
        begin, end = today + delay + 1, today + delay + 1 + days
        count = _count_open_intervals(shape, code, begin, end)[code, today]
        late = np.minimum(np.maximum(begin, label_day + 1), end)
        frauds = _count_open_intervals(shape, code[fraud], late[fraud], end[fraud])[code, today]
        features[f"merchant_count_{days}d"] = count.astype(np.float32)
        features[f"merchant_risk_{days}d"] = (frauds / (count + RISK_PRIOR)).astype(np.float32)
    return features


def _count_open_intervals(shape: tuple[int, int], code: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Count the intervals ``[begin, end)`` that contain each day, by merchant, ``[merchants, days]``."""
    width = shape[1] + 1
    ends = [np.bincount(code * width + np.minimum(edge, shape[1]), minlength=shape[0] * width) for edge in (begin, end)]
    return (ends[0] - ends[1]).reshape(shape[0], width).cumsum(axis=1)


def split(frame: pl.DataFrame, settings: Mapping[str, Any]) -> dict[str, pl.DataFrame]:
    """Split rows by time; a row counts if its label was known when eval begins, or for eval at the end of the data."""
    day, delay = frame["event_time"] // DAY, settings["label_delay_days"]
    first, last = int(day.to_numpy().min()), int(day.to_numpy().max()) + 1
    start = first + settings["warmup_days"]
    held = last - delay - settings["eval_days"]
    valid = held - delay - settings["valid_days"]
    if valid <= start:
        raise ValueError(
            f"The window has {last - first} days, too few for warm-up, splits and label delays: use more spans."
        )
    bounds = {"train": (start, valid, held), "valid": (valid, held - delay, held), "eval": (held, last - delay, last)}
    has_label = {
        name: frame[LABEL].is_not_null() & (frame["label_time"] <= as_of * DAY)
        for name, (_, _, as_of) in bounds.items()
    }
    frame = frame.with_columns(pl.col("event_time") // SECOND)
    return {
        name: frame.filter(has_label[name] & (day >= low) & (day < high)) for name, (low, high, _) in bounds.items()
    }
