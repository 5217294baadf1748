"""How columns are counted: bins at the reference's quantiles, categories by name; fixed before the first row is counted."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

BINS = 64
KNOWN = 512
LONGEST = 64  # bytes of a category's name that are kept
ROOM = 24 << 10  # bytes of all known names as they are written
TAIL = 0.999
RANKS = 1 << 16
SIGN = 1 << 15
INFINITE = 0x7F80  # upper half of float32's infinity; what lies above is not a number


@dataclass(frozen=True)
class Number:
    """A column of numbers.

    A value's rank is the upper half of ``float32(value - centre)``, sorted: 7 bits of mantissa, so cells are finest near
    the centre and under 1% of the distance from it elsewhere. Counting ranks is a table look-up, several times faster
    than a search among edges, and as exact, since the edges are ranks too.

    Attributes:
        name: The column.
        centre: The reference's median.
        scale: Whole units a unit of value, for sums that are exact.
        edges: Ascending ranks; bin i holds edges[i - 1] <= rank < edges[i]. The first bin lies below all that the
            reference held, the last above.
    """

    name: str
    centre: float
    scale: float
    edges: tuple[int, ...]

    @staticmethod
    def of(name: str, values: np.ndarray, bins: int = BINS) -> "Number":
        """Bins of equal shares of the reference's finite values ``[n]``, and one for the uppermost thousandth.

        Raises:
            ValueError: if no value is finite.
        """
        values = np.asarray(values, np.float64)
        values = np.sort(values[np.isfinite(values)])
        if not len(values):
            raise ValueError(f"The reference's column '{name}' has no finite value; leave it out of what is watched.")
        centre = float(values[len(values) // 2])
        spread = float(max(abs(values[0] - centre), abs(values[-1] - centre))) or 1.0
        shares = np.append(np.arange(1, bins) / bins, TAIL)
        found = Number(name, centre, 2.0 ** np.floor(30 - np.log2(spread)), ())
        inner = found.ranks(values[np.minimum((shares * len(values)).astype(np.int64), len(values) - 1)])
        least, most = found.ranks(values[[0, -1]])
        edges = np.unique(np.concatenate([[least], inner, [most + 1]]))
        return Number(name, centre, found.scale, tuple(int(edge) for edge in edges))

    def halves(self, values: np.ndarray) -> np.ndarray:
        """The upper halves of the values' bits, uint16 ``[n]``."""
        with np.errstate(over="ignore", invalid="ignore"):
            return ((values - self.centre).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)

    def ranks(self, values: np.ndarray) -> np.ndarray:
        """0 to 65,535 in the order of the values, int64 ``[n]``."""
        return ordered(self.halves(np.asarray(values, np.float64)))

    def bins(self, values: np.ndarray) -> np.ndarray:
        """Each value's bin, int64 ``[n]``."""
        return np.searchsorted(np.array(self.edges), self.ranks(values), side="right")

    @property
    def size(self) -> int:
        """Number of bins."""
        return len(self.edges) + 1


@dataclass(frozen=True)
class Category:
    """A column of names; ``values`` are those that the reference held most, sorted."""

    name: str
    values: tuple[str, ...]

    @staticmethod
    def of(name: str, values: Any) -> "Category":
        """The most frequent values of the reference, at most ``KNOWN``, and as many as have room."""
        counted = counts(values)
        most = sorted(counted, key=lambda value: (-counted[value], value))[:KNOWN]
        filled = np.cumsum([len(json.dumps(value, ensure_ascii=False).encode()) + 1 for value in most])
        return Category(name, tuple(sorted(most[: int((filled <= ROOM).sum())])))

    @property
    def size(self) -> int:
        """Number of bins: the known values, then all others together."""
        return len(self.values) + 1


Column = Number | Category
Layout = tuple[Column, ...]


def fit(columns: Mapping[str, Any] | pl.DataFrame, bins: int = BINS) -> Layout:
    """A layout from a sample of the reference: what holds numbers by quantiles, the rest by name, in sorted order."""
    read = {name: series(columns[name]) for name in sorted(names(columns))}
    return tuple(
        Number.of(name, one.to_numpy(), bins) if one.dtype.is_numeric() else Category.of(name, one)
        for name, one in read.items()
    )


def names(columns: Mapping[str, Any] | pl.DataFrame) -> list[str]:
    """Names of the columns of a frame or of a mapping."""
    return columns.columns if isinstance(columns, pl.DataFrame) else list(columns)


def series(values: Any) -> pl.Series:
    """A column as a series; bytes become text, and flags numbers."""
    read = values if isinstance(values, pl.Series) else pl.Series(values)
    if read.dtype == pl.Binary:
        read = pl.Series([None if one is None else one.decode("utf-8", "replace") for one in read], dtype=pl.String)
    return read.cast(pl.Int8) if read.dtype == pl.Boolean else read


def counts(values: Any) -> dict[str, int]:
    """How often each name is there, nulls left out, names cut to ``LONGEST`` bytes."""
    table = series(values).drop_nulls().value_counts(name="count")
    found: dict[str, int] = {}
    for value, number in zip(table[table.columns[0]].cast(pl.String), table["count"], strict=True):
        text = value if len(value) * 4 <= LONGEST else value.encode()[:LONGEST].decode("utf-8", "ignore")
        found[text] = found.get(text, 0) + number
    return found


def ordered(halves: np.ndarray) -> np.ndarray:
    """Ranks of upper halves: floats' bits sort upwards for positive and downwards for negative values."""
    wide = halves.astype(np.int64)
    return np.where(wide >= SIGN, RANKS - 1 - wide, wide + SIGN)
