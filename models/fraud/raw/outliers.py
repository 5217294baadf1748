"""Purchases whose times lie far from all others: finds them and describes them with their places."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.data.data_report import LISTED
from models.fraud.raw.duplicates import hash_rows
from models.fraud.raw.file_reader import ReadOptions, read_file
from models.fraud.raw.table_files import TableFile

DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Outliers:
    """Rows outside a period.

    Attributes:
        places: File, row and time of each, the first ``LISTED`` of every file.
        days: Days between each row and the period, negative before it, int64 ``[rows]``.
        hashes: Hash of each row, uint64 ``[rows]``; equal rows have equal hashes.
    """

    places: list[str]
    days: np.ndarray
    hashes: np.ndarray


def select_period(table: pa.Table, first_day: int, last_day: int) -> pa.Table:
    """Return the purchases of the days from ``first_day`` to ``last_day`` since 1970, both included."""
    return table.filter(pa.array(_measure_distance(table, (first_day, last_day)) == 0))


def find_outliers(files: Iterable[TableFile], options: ReadOptions, period: tuple[int, int]) -> Outliers:
    """Read files again and find their rows outside a period, in days since 1970."""
    places, days, hashes = [], [], []
    for file in files:
        table = read_file(file, options).table
        distance = _measure_distance(table, period)
        rows = np.flatnonzero(distance)
        outside = table.take(pa.array(rows))
        times = outside["event_time"].to_pylist()[:LISTED]
        places += [f"{file.path}, {file.name_row(int(row))} ({time})" for row, time in zip(rows, times, strict=False)]
        days.append(distance[rows])
        hashes.append(hash_rows(outside))
    return Outliers(places, np.concatenate(days), np.concatenate(hashes))


def _measure_distance(table: pa.Table, period: tuple[int, int]) -> np.ndarray:
    """Return the days between each purchase and a period, negative before it, 0 inside, int64 ``[rows]``."""
    day = pc.cast(table["event_time"], pa.int64()).to_numpy() // DAY_US
    return np.minimum(day - period[0], 0) + np.maximum(day - period[1], 0)


def describe_outliers(outliers: Outliers, period: tuple[int, int]) -> str:
    """Return the message that refuses them, with their places and the remedy."""
    first, last = (date(1970, 1, 1) + timedelta(day) for day in period)
    count, low, high = len(outliers.days), -int(outliers.days.min()), int(outliers.days.max())
    sides = [f"{days:,} days {side}" for days, side in ((low, "before"), (high, "after")) if days > 0]
    verb = "purchase lies" if count == 1 else "purchases lie up to"
    places = outliers.places[:LISTED]
    rest = f" and {count - len(places):,} more" if count > len(places) else ""
    return (
        f"{count:,} {verb} {' and '.join(sides)} the others of {first} to {last}: {', '.join(places)}{rest}; "
        "correct event_time there, or drop such rows with --set outliers=drop."
    )
