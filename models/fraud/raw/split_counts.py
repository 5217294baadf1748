"""Sizes of the splits and of the days between them, counted before a run starts."""

from collections.abc import Mapping
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.data.data_report import SplitCount, list_some

DAY_US = 86_400_000_000
# Purchases with a label that a split needs: with fewer no metric of it means anything.
LEAST_ROWS = 10
NEVER = np.iinfo(np.int64).max
LONGEST_WAIT = 1 << 22  # days from a purchase to its label; more than 9999 years
# Number of purchases by day, label and the first day on which the label is known. Without a label: -1 and ``NEVER``.
LabelCounts = Mapping[tuple[int, int, int], int]


def count_labels(table: pa.Table) -> dict[tuple[int, int, int], int]:
    """Count the purchases of a table by day since 1970, label, and day by whose beginning the label has arrived."""
    day = pc.cast(table["event_time"], pa.int64()).to_numpy() // DAY_US
    label = pc.fill_null(table["is_fraud"].cast(pa.int64()), -1).to_numpy()
    arrived = pc.fill_null(pc.cast(table["label_time"], pa.int64()), NEVER).to_numpy()
    label_day = np.where((label < 0) | (arrived == NEVER), NEVER, -(-arrived // DAY_US))
    # One number per row, as sorting numbers is many times faster than sorting rows.
    wait = np.where(label_day == NEVER, LONGEST_WAIT, np.minimum(label_day - day, LONGEST_WAIT - 1))
    numbers, counts = np.unique((day * 3 + label + 1) * (LONGEST_WAIT + 1) + wait, return_counts=True)
    pairs, wait = np.divmod(numbers, LONGEST_WAIT + 1)
    day, label = pairs // 3, pairs % 3 - 1
    label_day = np.where(wait == LONGEST_WAIT, NEVER, day + wait)
    keys = zip(day.tolist(), label.tolist(), label_day.tolist(), strict=True)
    return dict(zip(keys, counts.tolist(), strict=True))


def label_cutoff(split: str, split_days: Mapping[str, range], last_day: int) -> int:
    """Return the day by whose beginning a label must have arrived to be used in a split.

    Training labels had arrived when eval began; a later label would leak information from the time of eval.
    """
    return last_day + 1 if split == "eval" else split_days["eval"].start


def count_splits(counts: LabelCounts, split_days: Mapping[str, range], first: int, last: int) -> dict[str, SplitCount]:
    """Count the labelled purchases of each split, and all purchases of the days between them, in order of time.

    Args:
        counts: Numbers of purchases.
        split_days: Days of each split.
        first, last: First and last day of the window.
    """
    between = {
        "warm-up": range(first, split_days["train"].start),
        "label delay before eval": range(split_days["valid"].stop, split_days["eval"].start),
        "label delay after eval": range(split_days["eval"].stop, last + 1),
    }
    sizes = {}
    for name, days in sorted({**split_days, **between}.items(), key=lambda item: item[1].start):
        if name in between and days:
            rows = sum(count for (day, _, _), count in counts.items() if day in days)
            sizes[name] = SplitCount(rows=rows, period=_format_period(days))
        elif name in split_days:
            sizes[name] = _count_split(counts, days, label_cutoff(name, split_days, last))
    return sizes


def _count_split(counts: LabelCounts, days: range, cutoff: int) -> SplitCount:
    labels = {
        name: sum(
            count
            for (day, value, label_day), count in counts.items()
            if day in days and value == label and label_day <= cutoff
        )
        for name, label in (("fraud", 1), ("honest", 0))
    }
    return SplitCount(rows=sum(labels.values()), labels=labels, period=_format_period(days))


def describe_gaps(counts: LabelCounts, split_days: Mapping[str, range], sizes: Mapping[str, SplitCount]) -> list[str]:
    """Return sentences about purchases of the splits without a label in time, and days of the splits without purchases."""
    days = {day for days in split_days.values() for day in days}
    rows = sum(count for (day, _, _), count in counts.items() if day in days)
    unlabelled = rows - sum(sizes[name].rows for name in split_days)
    notes = []
    if unlabelled:
        notes.append(
            f"purchases of train, valid and eval without a label in time, used only as history: {unlabelled:,}"
        )
    if empty := sorted(days - {day for day, _, _ in counts}):
        dates = [str(date(1970, 1, 1) + timedelta(day)) for day in empty]
        notes.append(f"days of train, valid and eval without purchases: {list_some(dates)}")
    return notes


def find_faults(sizes: Mapping[str, SplitCount], split_days: Mapping[str, range]) -> list[str]:
    """Return a message for each split that has too few purchases, or none of one label."""
    faults = []
    for name in split_days:
        size, days = sizes[name], len(split_days[name])
        place = f"{days} day{'s' * (days > 1)} from {size.period[0]} with {size.rows:,} labelled purchases"
        missing = [label for label, rows in size.labels.items() if not rows]
        if size.rows < LEAST_ROWS:
            faults.append(f"{name} has fewer than {LEAST_ROWS} purchases: {place}; {_advise(name)}.")
        elif missing:
            kind = "fraud" if missing == ["fraud"] else "honest purchase"
            faults.append(f"no {kind} in {name}: {place}; {_advise(name)}.")
    return faults


def _advise(split: str) -> str:
    return "give more spans" if split == "train" else f"give more spans or raise {split}_days"


def _format_period(days: range) -> tuple[str, ...]:
    return tuple(str(date(1970, 1, 1) + timedelta(day)) for day in (days[0], days[-1]))
