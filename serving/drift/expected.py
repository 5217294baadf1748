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
class Expected:
    """A least-squares fit of a column's logarithm, and what each value of categories with many values adds to it.

    Many values have few rows each, so their means are drawn towards none, the more the fewer rows they have and the less
    values differ (the best linear prediction of random effects, Henderson).

    Attributes:
        name: The column explained; what is left is ``name_unexplained``.
        numbers: Columns that explain it, by their ``log1p``.
        levels: Known values of the categories that explain it.
        weights: A constant, then a weight a number, then one a level.
        spreads: The same of what is left without its sign: rows that are hard to foresee have less of a say.
        effects: By category with many values: how many rows each value's effect is drawn towards none by, and of each
            value that came more than once the rows and the sum of what was left of them.
    """

    name: str
    numbers: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]
    weights: tuple[float, ...]
    spreads: tuple[float, ...] = ()
    effects: Mapping[str, tuple[float, Mapping[str, tuple[int, float]]]] = field(default_factory=dict)

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
            raise ValueError(f"The reference's column '{name}' has no positive value; it cannot be explained by others.")
        rows, logs = rows.filter(pl.Series(there)), logs[there]
        table = Expected(name, numbers, levels, ())._table(rows)
        # A little ridge: one level of each category follows from the others.
        square = table.T @ table + SLIGHT * len(table) * np.eye(table.shape[1])
        weights = np.linalg.solve(square, table.T @ logs)
        left, effects = logs - table @ weights, {}
        for one in (one for one in values if one not in levels):
            effects[one] = _effects(rows[one], left)
            left = left - _effect(effects[one], rows[one], left)
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
            off = off - _effect(effect, rows[one], off if fitted else None)
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


def _effects(names: pl.Series, left: np.ndarray) -> tuple[float, dict[str, tuple[int, float]]]:
    """Rows by which effects are drawn towards none, and each value's rows and sum, from rows ``[n]``.

    That number of rows is the variance within values over that between them (analysis of variance, unequal groups).
    """
    there = names.is_not_null().to_numpy()
    known, at = np.unique(names.drop_nulls().cast(pl.String).to_list(), return_inverse=True)
    n, total, square = (np.bincount(at, one[there]) for one in (np.ones(len(left)), left, left**2))
    within = (square - total**2 / n).sum() / max(n.sum() - len(n), 1)
    between = ((total**2 / n).sum() - total.sum() ** 2 / n.sum()) / max(len(n) - 1, 1)
    size = (n.sum() - (n**2).sum() / n.sum()) / max(len(n) - 1, 1)
    differ = (between - within) / size if size else 0.0
    if differ <= 0:
        return 0.0, {}
    held = {str(name): (int(rows), float(one)) for name, rows, one in zip(known, n, total, strict=True) if rows > 1}
    return float(within / differ), held


def _effect(
    effect: tuple[float, Mapping[str, tuple[int, float]]], names: pl.Series, left: np.ndarray | None
) -> np.ndarray:
    """Each row's effect ``[n]``, 0 for values that are not known; without the rows' own ``left`` where it is given."""
    drawn, known = effect
    table = pl.DataFrame(
        {"name": list(known), "n": [one for one, _ in known.values()], "sum": [one for _, one in known.values()]},
        schema={"name": pl.String, "n": pl.Float64, "sum": pl.Float64},
    )
    asked = pl.DataFrame({"name": names.cast(pl.String)}).join(table, on="name", how="left", maintain_order="left")
    n, total = asked["n"].fill_null(0.0).to_numpy(), asked["sum"].fill_null(0.0).to_numpy()
    if left is not None:
        own = (n > 0) & np.isfinite(left)
        n, total = n - own, total - np.where(own, left, 0.0)
    return total / np.maximum(n + drawn, SLIGHT)
