"""What a window of rows looks like, in integers: profiles of parts add up to the profile of the whole, exactly."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import polars as pl

from serving.drift.profiles import bins as layouts
from serving.drift.profiles.bins import INFINITE, RANKS, SIGN, Category, Column, Layout, Number

LIMIT = 64 << 10
CHUNK = 1 << 16  # rows at a time: what a column needs stays in the processor's cache
FEW = 4096  # below, a search among the edges is faster than a table of all ranks
SAMPLE = 48
FARTHEST = 2.0**40


def canonical(held: Mapping[str, Any]) -> bytes:
    """JSON of which equal values give equal bytes."""
    return json.dumps(held, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True)
class Counts:
    """One column's counts.

    Attributes:
        bins: Rows a bin, int64 ``[size]``; of a category the last bin holds what the reference did not.
        nulls: Rows without a value, or with one that is not a number.
        infinite: Values beyond float32.
        whole: Values without decimals.
        total: Sum over the finite values of ``rint((value - centre) * scale)``, of any size.
        least, most: Extreme finite values, None where there is none.
        unseen: The unknown names with the smallest hashes, at most ``SAMPLE``, and how often each is there. A name among
            the smallest of a whole is among the smallest of each part that has it, so these counts are exact too.
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
        """Rows with a value that can be placed."""
        return int(self.bins.sum())

    def __add__(self, other: "Counts") -> "Counts":
        both = {
            name: getattr(self, name) + getattr(other, name) for name in ("bins", "nulls", "infinite", "whole", "total")
        }
        return Counts(
            **both,
            least=_extreme(min, self.least, other.least),
            most=_extreme(max, self.most, other.most),
            unseen=_smallest(self.unseen or {}, other.unseen or {}),
        )


@dataclass(frozen=True)
class Profile:
    """Counts a column of a layout, and the number of rows.

    Question: B18
    Answer: Log what was asked and answered, and profile each window by the bins of the evaluation split, which travel with
        the model. Compare inputs, scores and predicted classes: KL, Jensen–Shannon, Kolmogorov–Smirnov, L-infinity, PSI say
        how much; whether it is more than chance is judged by what undrifted days differ by, corrected for many columns.
        Tell broken data from drift. Drift is not damage: estimate the metric, confirm with late labels, then retrain.
    Evidence: tour.evidence.serving.drift_detection.detected
    Proof: tests/serving/drift/alarms/test_alarm.py::test_a_shifted_column_alarms_on_its_first_day_and_a_clean_one_does_not
    """

    layout: Layout
    rows: int
    counts: tuple[Counts, ...]

    @staticmethod
    def empty(layout: Layout) -> "Profile":
        """The profile of no row."""
        return Profile(layout, 0, tuple(Counts(np.zeros(column.size, np.int64)) for column in layout))

    @staticmethod
    def of(layout: Layout, columns: Mapping[str, Any] | pl.DataFrame) -> "Profile":
        """The profile of some rows.

        Raises:
            ValueError: if a column of the layout is not there, or columns differ in length.
        """
        there = layouts.names(columns)
        if lacking := [column.name for column in layout if column.name not in there]:
            raise ValueError(f"The rows have no column '{lacking[0]}'; they have {', '.join(sorted(there))}.")
        read = [layouts.series(columns[column.name]) for column in layout]
        if len({len(one) for one in read}) > 1:
            raise ValueError(f"Columns differ in length: {', '.join(f'{one.name} {len(one)}' for one in read)}.")
        return Profile(layout, len(read[0]) if read else 0, tuple(map(_count, layout, read)))

    @staticmethod
    def stream(layout: Layout, batches: Iterable[Mapping[str, Any] | pl.DataFrame]) -> "Profile":
        """The profile of all batches, in the memory of one."""
        whole = Profile.empty(layout)
        for batch in batches:
            whole = whole.merge(Profile.of(layout, batch))
        return whole

    def merge(self, other: "Profile") -> "Profile":
        """The profile of both rows together.

        Raises:
            ValueError: if they were counted by different layouts.
        """
        if self.layout is not other.layout and self.layout != other.layout:
            raise ValueError("Profiles of different layouts do not add up; count both by the layout of one model.")
        added = tuple(one + two for one, two in zip(self.counts, other.counts, strict=True))
        return Profile(self.layout, self.rows + other.rows, added)

    def __getitem__(self, name: str) -> Counts:
        for column, counts in zip(self.layout, self.counts, strict=True):
            if column.name == name:
                return counts
        raise KeyError(f"There is no column '{name}' in this profile.")

    def mean(self, name: str) -> float:
        """Mean of the finite values of a column of numbers; not a number where there is none."""
        column = next(one for one in self.layout if one.name == name and isinstance(one, Number))
        counts = self[name]
        finite = counts.rows - counts.infinite
        return column.centre + counts.total / column.scale / finite if finite else float("nan")

    def to_bytes(self) -> bytes:
        """Canonical: equal profiles give equal bytes."""
        columns = [_written(column, counts) for column, counts in zip(self.layout, self.counts, strict=True)]
        return canonical({"rows": self.rows, "columns": columns})

    @staticmethod
    def from_bytes(data: bytes) -> "Profile":
        """What :meth:`to_bytes` wrote.

        Raises:
            ValueError: if it is something else.
        """
        try:
            read = json.loads(data)
            pairs = [_read(one) for one in read["columns"]]
            return Profile(tuple(column for column, _ in pairs), read["rows"], tuple(counts for _, counts in pairs))
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"These bytes are no profile ({error}); write one with Profile.to_bytes.") from None


def _count(column: Column, values: pl.Series) -> Counts:
    return _numbers(column, values) if isinstance(column, Number) else _names(column, values)


def _numbers(column: Number, values: pl.Series) -> Counts:
    if not (values.dtype.is_numeric() or values.dtype == pl.Null):
        raise ValueError(f"Column '{column.name}' holds {values.dtype}, and its reference numbers; cast it before.")
    array = values.cast(pl.Float64).to_numpy()
    whole = Counts(np.zeros(column.size, np.int64))
    for start in range(0, len(array), CHUNK):
        whole = whole + _chunk(column, array[start : start + CHUNK])
    return whole


def _chunk(column: Number, values: np.ndarray) -> Counts:
    halves = column.halves(values)
    table = np.bincount(halves, minlength=RANKS) if len(values) >= FEW else None
    if table is None:
        ranks = layouts.ordered(halves)
        there = (halves & (SIGN - 1)) <= INFINITE
        bins = np.bincount(np.searchsorted(np.array(column.edges), ranks[there], side="right"), minlength=column.size)
        infinite = int(((halves & (SIGN - 1)) == INFINITE).sum())
    else:
        # In the order of ranks; what is no number lies at both ends and is left out.
        line = np.concatenate([table[SIGN:][::-1], table[:SIGN]])
        lost = SIGN - 1 - INFINITE
        line[:lost] = line[RANKS - lost :] = 0
        bins = np.add.reduceat(np.append(line, 0), np.concatenate([[0], column.edges]))
        infinite = int(table[INFINITE] + table[SIGN + INFINITE])
    nulls = len(values) - int(bins.sum())
    finite = values[(halves & (SIGN - 1)) < INFINITE] if nulls or infinite else values
    if not len(finite):
        return Counts(bins.astype(np.int64), nulls, infinite)
    steps = np.rint(np.clip((finite - column.centre) * column.scale, -FARTHEST, FARTHEST))
    return Counts(
        bins.astype(np.int64),
        nulls,
        infinite,
        int(np.count_nonzero(np.rint(finite) == finite)),
        int(steps.astype(np.int64).sum()),
        float(finite.min()),
        float(finite.max()),
    )


def _names(column: Category, values: pl.Series) -> Counts:
    found = layouts.counts(values)
    known = [found.pop(value, 0) for value in column.values]
    bins = np.array([*known, sum(found.values())], np.int64)
    return Counts(bins, values.null_count(), unseen=_smallest(found, {}))


def _smallest(one: Mapping[str, int], two: Mapping[str, int]) -> dict[str, int]:
    """Counts of both, of the ``SAMPLE`` names with the smallest hashes, sorted by name."""
    both = {name: one.get(name, 0) + two.get(name, 0) for name in {**one, **two}}
    if len(both) > SAMPLE:
        kept = sorted(both, key=lambda name: (blake2b(name.encode(), digest_size=8).digest(), name))[:SAMPLE]
        both = {name: both[name] for name in kept}
    return dict(sorted(both.items()))


def _extreme(which: Any, one: float | None, two: float | None) -> float | None:
    there = [value for value in (one, two) if value is not None]
    # Plus zero, since which of 0.0 and -0.0 is met first must not show in the bytes.
    return which(there) + 0.0 if there else None


def _written(column: Column, counts: Counts) -> dict[str, Any]:
    held = {"name": column.name, "bins": counts.bins.tolist(), "nulls": counts.nulls}
    if isinstance(column, Category):
        return held | {"values": list(column.values), "unseen": dict(counts.unseen or {})}
    numbers = {name: getattr(counts, name) for name in ("infinite", "whole", "total", "least", "most")}
    return held | numbers | {"centre": column.centre, "scale": column.scale, "edges": list(column.edges)}


def _read(held: Mapping[str, Any]) -> tuple[Column, Counts]:
    bins = np.array(held["bins"], np.int64)
    if "values" in held:
        return Category(held["name"], tuple(held["values"])), Counts(bins, held["nulls"], unseen=held["unseen"])
    column = Number(held["name"], held["centre"], held["scale"], tuple(held["edges"]))
    numbers = {name: held[name] for name in ("nulls", "infinite", "whole", "total", "least", "most")}
    return column, Counts(bins, **numbers)
