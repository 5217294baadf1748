"""Bins of columns: quantiles of the reference for numbers, names for categories; fixed before any row is counted."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

BINS = 64
MAX_CATEGORIES = 512  # largest number of known values of a category
MAX_NAME_BYTES = 64  # largest length of a category's name, in bytes; longer names are cut
MAX_NAMES_BYTES = 24 << 10  # largest total size of the known names in JSON, in bytes
TAIL_QUANTILE = 0.999  # quantile above which values have a bin of their own
RANKS = 1 << 16
SIGN = 1 << 15
INFINITE = 0x7F80  # upper 16 bits of float32 infinity; larger patterns are NaN


@dataclass(frozen=True)
class NumericColumn:
    """Bins of a numeric column.

    A value's rank is its position among the upper 16 bits of ``float32(value - centre)`` in sorted order. With 7 bits
    of mantissa, cells are finest near the centre and below 1% of the distance from it elsewhere. Counting ranks is a
    table look-up, several times faster than a binary search among edges, and as exact, since the edges are ranks too.

    Attributes:
        name: Name of the column.
        centre: Median of the reference.
        scale: Integer steps per unit of value, for exact sums.
        edges: Ascending ranks; bin i holds edges[i - 1] <= rank < edges[i]. The first bin lies below all values of the
            reference, the last one above.
    """

    name: str
    centre: float
    scale: float
    edges: tuple[int, ...]

    @staticmethod
    def of(name: str, values: np.ndarray, bins: int = BINS) -> "NumericColumn":
        """Bins of equal shares of the reference's finite values ``[n]``, and one for the uppermost thousandth.

        Raises:
            ValueError: if no value is finite.
        """
        values = np.asarray(values, np.float64)
        values = np.sort(values[np.isfinite(values)])
        if not len(values):
            raise ValueError(
                f"The reference's column '{name}' has no finite value; remove it from the monitored columns."
            )
        centre = float(values[len(values) // 2])
        spread = float(max(abs(values[0] - centre), abs(values[-1] - centre))) or 1.0
        shares = np.append(np.arange(1, bins) / bins, TAIL_QUANTILE)
        unbinned = NumericColumn(name, centre, 2.0 ** np.floor(30 - np.log2(spread)), ())
        inner = unbinned.ranks(values[np.minimum((shares * len(values)).astype(np.int64), len(values) - 1)])
        least, most = unbinned.ranks(values[[0, -1]])
        edges = np.unique(np.concatenate([[least], inner, [most + 1]]))
        return NumericColumn(name, centre, unbinned.scale, tuple(int(edge) for edge in edges))

    def halves(self, values: np.ndarray) -> np.ndarray:
        """Upper 16 bits of each value's float32 pattern, uint16 ``[n]``."""
        with np.errstate(over="ignore", invalid="ignore"):
            return ((values - self.centre).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)

    def ranks(self, values: np.ndarray) -> np.ndarray:
        """Ranks 0 to 65,535 in the order of the values, int64 ``[n]``."""
        return to_ranks(self.halves(np.asarray(values, np.float64)))

    def bins(self, values: np.ndarray) -> np.ndarray:
        """Index of each value's bin, int64 ``[n]``."""
        return np.searchsorted(np.array(self.edges), self.ranks(values), side="right")

    @property
    def size(self) -> int:
        return len(self.edges) + 1


@dataclass(frozen=True)
class CategoricalColumn:
    """Bins of a categorical column; ``values`` are the reference's most frequent values, sorted."""

    name: str
    values: tuple[str, ...]

    @staticmethod
    def of(name: str, values: Any) -> "CategoricalColumn":
        """The most frequent values of the reference, at most ``KNOWN`` values and ``MAX_NAMES_BYTES`` bytes of JSON."""
        frequencies = count_values(values)
        frequent = sorted(frequencies, key=lambda value: (-frequencies[value], value))[:MAX_CATEGORIES]
        sizes = np.cumsum([len(json.dumps(value, ensure_ascii=False).encode()) + 1 for value in frequent])
        return CategoricalColumn(name, tuple(sorted(frequent[: int((sizes <= MAX_NAMES_BYTES).sum())])))

    @property
    def size(self) -> int:
        """Number of bins: one per known value, and one for all others."""
        return len(self.values) + 1


Column = NumericColumn | CategoricalColumn
Layout = tuple[Column, ...]


def fit_layout(columns: Mapping[str, Any] | pl.DataFrame, bins: int = BINS) -> Layout:
    """Fit a layout to a sample of the reference, columns in sorted order: quantile bins for numbers, names for the rest."""
    values = {name: to_series(columns[name]) for name in sorted(column_names(columns))}
    return tuple(
        NumericColumn.of(name, column.to_numpy(), bins)
        if column.dtype.is_numeric()
        else CategoricalColumn.of(name, column)
        for name, column in values.items()
    )


def column_names(columns: Mapping[str, Any] | pl.DataFrame) -> list[str]:
    """Column names of a frame or a mapping."""
    return columns.columns if isinstance(columns, pl.DataFrame) else list(columns)


def to_series(values: Any) -> pl.Series:
    """A column as a series; bytes are decoded to text, booleans become integers."""
    column = values if isinstance(values, pl.Series) else pl.Series(values)
    if column.dtype == pl.Binary:
        column = pl.Series(
            [None if value is None else value.decode("utf-8", "replace") for value in column], dtype=pl.String
        )
    return column.cast(pl.Int8) if column.dtype == pl.Boolean else column


def count_values(values: Any) -> dict[str, int]:
    """Frequency of each name, without nulls; names are cut to ``LONGEST`` bytes."""
    table = to_series(values).drop_nulls().value_counts(name="count")
    frequencies: dict[str, int] = {}
    for value, number in zip(table[table.columns[0]].cast(pl.String), table["count"], strict=True):
        text = value if len(value) * 4 <= MAX_NAME_BYTES else value.encode()[:MAX_NAME_BYTES].decode("utf-8", "ignore")
        frequencies[text] = frequencies.get(text, 0) + number
    return frequencies


def to_ranks(halves: np.ndarray) -> np.ndarray:
    """Ranks of upper halves: bit patterns of floats ascend for positive values and descend for negative ones."""
    wide = halves.astype(np.int64)
    return np.where(wide >= SIGN, RANKS - 1 - wide, wide + SIGN)
