"""What a column would be, given others: what is left varies less from day to day, so that a small shift shows.

Prices that rise by a twentieth drown in who happened to shop where; against what this customer usually spends on this
kind of thing they do not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

SLIGHT = 1e-6
SMALLEST = 0.05  # of what is left in the mean, for rows unlike all that were fitted
MANY = 50  # values from which on a category's are too many for a weight each


@dataclass(frozen=True)
class Effects:
    """What each value of a category with many values adds: the best linear prediction of random effects (Henderson).

    Many values have few rows each, so their means are drawn towards none, the more the fewer rows they have and the less
    values differ.

    Attributes:
        drawn: Rows that each mean is drawn by: the variance within values over that between them.
        known: Of each value that came more than once, its rows and the sum of what was left of them.
    """

    drawn: float
    known: Mapping[str, tuple[int, float]]

    @staticmethod
    def fit(names: pl.Series, left: np.ndarray) -> "Effects":
        """From rows ``[n]``, the variances by analysis of variance with unequal groups."""
        there = names.is_not_null().to_numpy()
        known, at = np.unique(names.drop_nulls().cast(pl.String).to_list(), return_inverse=True)
        n, total, square = (np.bincount(at, one[there]) for one in (np.ones(len(left)), left, left**2))
        within = (square - total**2 / n).sum() / max(n.sum() - len(n), 1)
        between = ((total**2 / n).sum() - total.sum() ** 2 / n.sum()) / max(len(n) - 1, 1)
        size = (n.sum() - (n**2).sum() / n.sum()) / max(len(n) - 1, 1)
        differ = (between - within) / size if size else 0.0
        if differ <= 0:
            return Effects(0.0, {})
        groups = zip(known, n, total, strict=True)
        return Effects(
            float(within / differ), {str(name): (int(rows), float(one)) for name, rows, one in groups if rows > 1}
        )

    def of(self, names: pl.Series, left: np.ndarray | None = None) -> np.ndarray:
        """Each row's effect ``[n]``, 0 for values not known; where its own ``left`` is given, by the others of its value."""
        held = ((name, *both) for name, both in self.known.items())
        table = pl.DataFrame(list(held), {"name": pl.String, "n": pl.Float64, "sum": pl.Float64}, orient="row")
        asked = pl.DataFrame({"name": names.cast(pl.String)}).join(table, on="name", how="left", maintain_order="left")
        n, total = (asked[one].fill_null(0.0).to_numpy() for one in ("n", "sum"))
        if left is not None:
            own = (n > 0) & np.isfinite(left)
            n, total = n - own, total - np.where(own, left, 0.0)
        return total / np.maximum(n + self.drawn, SLIGHT)


@dataclass(frozen=True)
class Expected:
    """A least-squares fit of a column's logarithm, and what categories with many values add to it.

    Attributes:
        name: The column explained; what is left is ``name_unexplained``.
        numbers: Columns that explain it, by their ``log1p``.
        levels: Known values of the categories that explain it.
        weights: A constant, then a weight a number, then one a level.
        spreads: The same of what is left without its sign: rows that are hard to foresee have less of a say.
        effects: By category with many values.
    """

    name: str
    numbers: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]
    weights: tuple[float, ...]
    spreads: tuple[float, ...] = ()
    effects: Mapping[str, Effects] = field(default_factory=dict)

    @staticmethod
    def fit(rows: pl.DataFrame, name: str, by: Sequence[str]) -> "Expected":
        """Fits on the reference; rows without a positive value are left out.

        Raises:
            ValueError: if no row has one.
        """
        numbers = tuple(one for one in by if rows[one].dtype.is_numeric())
        values = {one: rows[one].drop_nulls().cast(pl.String).unique().sort() for one in by if one not in numbers}
        levels = {one: tuple(known) for one, known in values.items() if len(known) <= MANY}
        logs = _logs(rows[name])
        there = np.isfinite(logs)
        if not there.any():
            raise ValueError(
                f"The reference's column '{name}' has no positive value; it cannot be explained by others."
            )
        rows, logs = rows.filter(pl.Series(there)), logs[there]
        table = Expected(name, numbers, levels, ())._table(rows)
        # A little ridge: one level of each category follows from the others.
        square = table.T @ table + SLIGHT * len(table) * np.eye(table.shape[1])
        weights = np.linalg.solve(square, table.T @ logs)
        left, effects = logs - table @ weights, {}
        for one in (one for one in values if one not in levels):
            effects[one] = Effects.fit(rows[one], left)
            left = left - effects[one].of(rows[one], left)
        spreads = np.linalg.solve(square, table.T @ np.abs(left))
        return Expected(name, numbers, levels, tuple(weights.tolist()), tuple(spreads.tolist()), effects)

    def left(self, rows: pl.DataFrame, fitted: bool = False) -> np.ndarray:
        """Logarithm of the value over the expected one, in what it usually is off by for such a row, ``[n]``.

        Not a number where there is no positive value. ``fitted`` says that these are the rows that were fitted on: of a
        value with few rows each is then told by the others, as new ones will be.
        """
        logs, table = _logs(rows[self.name]), self._table(rows)
        off = logs - table @ np.array(self.weights)
        for one, effect in self.effects.items():
            off = off - effect.of(rows[one], off if fitted else None)
        return off / (np.maximum(table @ np.array(self.spreads), SMALLEST) if self.spreads else 1.0)

    def added(self, rows: pl.DataFrame, fitted: bool = False) -> pl.DataFrame:
        """The rows with what is left as one more column."""
        return rows.with_columns(pl.Series(self.column, self.left(rows, fitted)))

    @property
    def column(self) -> str:
        """Name of the column of what is left."""
        return f"{self.name}_unexplained"

    def _table(self, rows: pl.DataFrame) -> np.ndarray:
        columns = [np.ones(len(rows))]
        for one in self.numbers:
            columns.append(np.nan_to_num(np.log1p(np.maximum(rows[one].cast(pl.Float64).to_numpy(), 0.0)), posinf=0.0))
        for one, known in self.levels.items():
            texts = rows[one].cast(pl.String)
            columns += [(texts == level).fill_null(False).to_numpy() for level in known]
        return np.column_stack(columns).astype(np.float64)


def _logs(values: pl.Series) -> np.ndarray:
    """Logarithms ``[n]``, not a number where there is no positive value."""
    held = values.cast(pl.Float64).to_numpy()
    there = np.isfinite(held) & (held > 0)
    return np.where(there, np.log(np.where(there, held, 1.0)), np.nan)
