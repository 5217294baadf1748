"""Profiles of windows: integer counts per column, so that profiles of parts add up exactly to the profile of the whole."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import polars as pl

from serving.drift.profiles import bins as layouts
from serving.drift.profiles.bins import INFINITE, RANKS, SIGN, CategoricalColumn, Column, Layout, NumericColumn

CHUNK = 1 << 16  # rows at a time, so that a column's values stay in the processor's cache
MIN_TABLE_ROWS = 4096  # below this number of rows, a binary search among the edges is faster than a table of all ranks
MAX_UNSEEN = 48  # largest number of unseen names that are stored
MAX_STEPS = 2.0**40  # bound of a value in integer steps, so that sums do not overflow


def to_canonical_json(held: Mapping[str, Any]) -> bytes:
    """Canonical JSON: equal values give equal bytes."""
    return json.dumps(held, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True)
class ColumnCounts:
    """Counts of one column.

    Attributes:
        bins: Rows per bin, int64 ``[size]``; a category's last bin counts values that the reference does not have.
        nulls: Rows without a value, or with NaN.
        infinite: Values beyond the range of float32.
        whole: Values that are whole numbers.
        total: Sum over the finite values of ``rint((value - centre) * scale)``, of arbitrary size.
        least, most: Smallest and largest finite value; None if there is none.
        unseen: Unknown names with the smallest hashes, at most ``SAMPLE``, with their counts. A name among the smallest
            of the whole is among the smallest of each part that contains it, so these counts are exact too.
    """

    bins: np.ndarray
    nulls: int = 0
    infinite: int = 0
    whole: int = 0
    total: int = 0
    least: float | None = None
    most: float | None = None
    unseen: Mapping[str, int] | None = None

    @property
    def rows(self) -> int:
        """Rows with a value that falls into a bin."""
        return int(self.bins.sum())

    def __add__(self, other: "ColumnCounts") -> "ColumnCounts":
        sums = {
            name: getattr(self, name) + getattr(other, name) for name in ("bins", "nulls", "infinite", "whole", "total")
        }
        return ColumnCounts(
            **sums,
            least=_merge_extreme(min, self.least, other.least),
            most=_merge_extreme(max, self.most, other.most),
            unseen=_merge_unseen(self.unseen or {}, other.unseen or {}),
        )


@dataclass(frozen=True)
class Profile:
    """Counts of each column of a layout, and the number of rows.

    Question: B18
    Answer: Log requests and answers, and profile each window with the reference profile's bins, which travel with the
        model. Compare inputs, scores and predicted classes: KL, Jensen–Shannon, Kolmogorov–Smirnov, L-infinity or PSI
        give the distance; significance is tested against the variation between undrifted days, corrected for multiple
        tests. Separate broken data from drift. Drift alone is not damage, so here the monitor estimates the metric,
        confirms it with late labels, and then retrains.
    Evidence: tour.evidence.serving.drift_detection.drift_and_faults
    Proof: tests/serving/drift/alarms/test_alarm.py::test_shifted_column_alarms_on_its_first_day_and_a_clean_one_does_not
    """

    layout: Layout
    rows: int
    counts: tuple[ColumnCounts, ...]

    @staticmethod
    def empty(layout: Layout) -> "Profile":
        return Profile(layout, 0, tuple(ColumnCounts(np.zeros(column.size, np.int64)) for column in layout))

    @staticmethod
    def of(layout: Layout, columns: Mapping[str, Any] | pl.DataFrame) -> "Profile":
        """The profile of some rows.

        Raises:
            ValueError: if a column of the layout is missing, or columns differ in length.
        """
        names = layouts.column_names(columns)
        if missing := [column.name for column in layout if column.name not in names]:
            raise ValueError(f"The rows have no column '{missing[0]}'; they have {', '.join(sorted(names))}.")
        values = [layouts.to_series(columns[column.name]) for column in layout]
        if len({len(column) for column in values}) > 1:
            raise ValueError(
                f"Columns differ in length: {', '.join(f'{column.name} {len(column)}' for column in values)}."
            )
        return Profile(layout, len(values[0]) if values else 0, tuple(map(_count_column, layout, values)))

    @staticmethod
    def stream(layout: Layout, batches: Iterable[Mapping[str, Any] | pl.DataFrame]) -> "Profile":
        """The profile of all batches; holds one batch in memory at a time."""
        profile = Profile.empty(layout)
        for batch in batches:
            profile = profile.merge(Profile.of(layout, batch))
        return profile

    def merge(self, other: "Profile") -> "Profile":
        """The profile of the rows of both.

        Raises:
            ValueError: if they were counted with different layouts.
        """
        if self.layout is not other.layout and self.layout != other.layout:
            raise ValueError("Profiles of different layouts cannot be added; count both with the layout of one model.")
        added = tuple(own + others for own, others in zip(self.counts, other.counts, strict=True))
        return Profile(self.layout, self.rows + other.rows, added)

    def __getitem__(self, name: str) -> ColumnCounts:
        for column, counts in zip(self.layout, self.counts, strict=True):
            if column.name == name:
                return counts
        raise KeyError(f"This profile has no column '{name}'.")

    def mean(self, name: str) -> float:
        """Mean of the finite values of a numeric column; NaN if there is none."""
        column = next(item for item in self.layout if item.name == name and isinstance(item, NumericColumn))
        counts = self[name]
        finite = counts.rows - counts.infinite
        return column.centre + counts.total / column.scale / finite if finite else float("nan")

    def to_bytes(self) -> bytes:
        """Serialize canonically: equal profiles give equal bytes."""
        columns = [_to_plain_values(column, counts) for column, counts in zip(self.layout, self.counts, strict=True)]
        return to_canonical_json({"rows": self.rows, "columns": columns})

    @staticmethod
    def from_bytes(data: bytes) -> "Profile":
        """Restore the result of :meth:`to_bytes`.

        Raises:
            ValueError: if the bytes are something else.
        """
        try:
            fields = json.loads(data)
            pairs = [_from_plain_values(column) for column in fields["columns"]]
            return Profile(tuple(column for column, _ in pairs), fields["rows"], tuple(counts for _, counts in pairs))
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"These bytes are not a profile ({error}); write one with Profile.to_bytes.") from None


def _count_column(column: Column, values: pl.Series) -> ColumnCounts:
    return _count_numbers(column, values) if isinstance(column, NumericColumn) else _count_categories(column, values)


def _count_numbers(column: NumericColumn, values: pl.Series) -> ColumnCounts:
    if not (values.dtype.is_numeric() or values.dtype == pl.Null):
        raise ValueError(
            f"Column '{column.name}' has type {values.dtype}, but its reference is numeric; cast it to a number first."
        )
    array = values.cast(pl.Float64).to_numpy()
    total = ColumnCounts(np.zeros(column.size, np.int64))
    for start in range(0, len(array), CHUNK):
        total = total + _count_chunk(column, array[start : start + CHUNK])
    return total


def _count_chunk(column: NumericColumn, values: np.ndarray) -> ColumnCounts:
    halves = column.halves(values)
    table = np.bincount(halves, minlength=RANKS) if len(values) >= MIN_TABLE_ROWS else None
    if table is None:
        ranks = layouts.to_ranks(halves)
        is_number = (halves & (SIGN - 1)) <= INFINITE
        bins = np.bincount(
            np.searchsorted(np.array(column.edges), ranks[is_number], side="right"), minlength=column.size
        )
        infinite = int(((halves & (SIGN - 1)) == INFINITE).sum())
    else:
        # In the order of ranks; NaN patterns lie at both ends and are excluded.
        by_rank = np.concatenate([table[SIGN:][::-1], table[:SIGN]])
        nan_patterns = SIGN - 1 - INFINITE
        by_rank[:nan_patterns] = by_rank[RANKS - nan_patterns :] = 0
        bins = np.add.reduceat(np.append(by_rank, 0), np.concatenate([[0], column.edges]))
        infinite = int(table[INFINITE] + table[SIGN + INFINITE])
    nulls = len(values) - int(bins.sum())
    finite = values[(halves & (SIGN - 1)) < INFINITE] if nulls or infinite else values
    if not len(finite):
        return ColumnCounts(bins.astype(np.int64), nulls, infinite)
    steps = np.rint(np.clip((finite - column.centre) * column.scale, -MAX_STEPS, MAX_STEPS))
    return ColumnCounts(
        bins=bins.astype(np.int64),
        nulls=nulls,
        infinite=infinite,
        whole=int(np.count_nonzero(np.rint(finite) == finite)),
        total=int(steps.astype(np.int64).sum()),
        least=float(finite.min()),
        most=float(finite.max()),
    )


def _count_categories(column: CategoricalColumn, values: pl.Series) -> ColumnCounts:
    others = layouts.count_values(values)
    known_counts = [others.pop(value, 0) for value in column.values]
    bins = np.array([*known_counts, sum(others.values())], np.int64)
    return ColumnCounts(bins, values.null_count(), unseen=_merge_unseen(others, {}))


def _merge_unseen(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    """Sum of both counts, for the ``SAMPLE`` names with the smallest hashes, sorted by name."""
    merged = {name: left.get(name, 0) + right.get(name, 0) for name in {**left, **right}}
    if len(merged) > MAX_UNSEEN:
        sample = sorted(merged, key=lambda name: (blake2b(name.encode(), digest_size=8).digest(), name))[:MAX_UNSEEN]
        merged = {name: merged[name] for name in sample}
    return dict(sorted(merged.items()))


def _merge_extreme(select: Any, left: float | None, right: float | None) -> float | None:
    values = [value for value in (left, right) if value is not None]
    # Adding 0.0 turns -0.0 into 0.0, so that the bytes do not depend on the order of the rows.
    return select(values) + 0.0 if values else None


def _to_plain_values(column: Column, counts: ColumnCounts) -> dict[str, Any]:
    fields = {"name": column.name, "bins": counts.bins.tolist(), "nulls": counts.nulls}
    if isinstance(column, CategoricalColumn):
        return fields | {"values": list(column.values), "unseen": dict(counts.unseen or {})}
    numbers = {name: getattr(counts, name) for name in ("infinite", "whole", "total", "least", "most")}
    return fields | numbers | {"centre": column.centre, "scale": column.scale, "edges": list(column.edges)}


def _from_plain_values(fields: Mapping[str, Any]) -> tuple[Column, ColumnCounts]:
    bins = np.array(fields["bins"], np.int64)
    if "values" in fields:
        return CategoricalColumn(fields["name"], tuple(fields["values"])), ColumnCounts(
            bins, fields["nulls"], unseen=fields["unseen"]
        )
    column = NumericColumn(fields["name"], fields["centre"], fields["scale"], tuple(fields["edges"]))
    numbers = {name: fields[name] for name in ("nulls", "infinite", "whole", "total", "least", "most")}
    return column, ColumnCounts(bins, **numbers)
