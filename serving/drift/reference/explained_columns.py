"""Residuals of a column given others: they vary less from day to day than the column, so that a small shift is detected.

A rise of prices by 5% is hidden by who happened to shop where. It shows in the residuals against what this customer
usually spends in this category.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

RIDGE = 1e-6  # ridge penalty per row, and smallest divisor
MIN_SPREAD = 0.05  # smallest expected absolute residual, for rows unlike all rows of the fit
MAX_LEVELS = 50  # categories with more values get random effects instead of a weight per value


@dataclass(frozen=True)
class RandomEffects:
    """Random effects of the values of a category with many values: best linear unbiased prediction (Henderson).

    A value with few rows has an imprecise mean. Means are shrunk towards zero, the more the fewer rows they have and
    the less the values differ.

    Attributes:
        drawn: Shrinkage in rows: variance within values over variance between them.
        known: Number of rows and sum of residuals of each value that occurred more than once.
    """

    drawn: float
    known: Mapping[str, tuple[int, float]]

    @staticmethod
    def fit(names: pl.Series, left: np.ndarray) -> "RandomEffects":
        """Fit to residuals ``[n]``; the variance components come from an analysis of variance with unequal groups."""
        present = names.is_not_null().to_numpy()
        values, at = np.unique(names.drop_nulls().cast(pl.String).to_list(), return_inverse=True)
        n, total, square = (np.bincount(at, part[present]) for part in (np.ones(len(left)), left, left**2))
        within = (square - total**2 / n).sum() / max(n.sum() - len(n), 1)
        between = ((total**2 / n).sum() - total.sum() ** 2 / n.sum()) / max(len(n) - 1, 1)
        size = (n.sum() - (n**2).sum() / n.sum()) / max(len(n) - 1, 1)
        variance = (between - within) / size if size else 0.0
        if variance <= 0:
            return RandomEffects(0.0, {})
        groups = zip(values, n, total, strict=True)
        totals = {str(name): (int(rows), float(residuals)) for name, rows, residuals in groups if rows > 1}
        return RandomEffects(float(within / variance), totals)

    def predict(self, names: pl.Series, left: np.ndarray | None = None) -> np.ndarray:
        """Effect of each row's value ``[n]``; 0 for unknown values.

        Args:
            names: Values of the category ``[n]``.
            left: Residuals of the rows ``[n]``, if they are the rows of the fit; each row is then predicted from the
                others of its value.
        """
        groups = ((name, *sums) for name, sums in self.known.items())
        table = pl.DataFrame(list(groups), {"name": pl.String, "n": pl.Float64, "sum": pl.Float64}, orient="row")
        joined = pl.DataFrame({"name": names.cast(pl.String)}).join(table, on="name", how="left", maintain_order="left")
        n, total = (joined[column].fill_null(0.0).to_numpy() for column in ("n", "sum"))
        if left is not None:
            own = (n > 0) & np.isfinite(left)
            n, total = n - own, total - np.where(own, left, 0.0)
        return total / np.maximum(n + self.drawn, RIDGE)


@dataclass(frozen=True)
class ExplainedColumn:
    """Least-squares fit of the logarithm of a column, plus random effects of categories with many values.

    Attributes:
        name: Explained column; the residual column is ``name_unexplained``.
        numbers: Numeric explaining columns, used as their ``log1p``.
        levels: Known values of the explaining categories with few values.
        weights: Constant, then one weight per number, then one per level.
        spreads: Weights of the same form for the absolute residual, by which residuals are scaled (heteroscedasticity).
        effects: Random effects of each explaining category with many values.
    """

    name: str
    numbers: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]
    weights: tuple[float, ...]
    spreads: tuple[float, ...] = ()
    effects: Mapping[str, RandomEffects] = field(default_factory=dict)

    @staticmethod
    def fit(rows: pl.DataFrame, name: str, by: Sequence[str]) -> "ExplainedColumn":
        """Fit to the reference; rows without a positive value are left out.

        Raises:
            ValueError: if no row has a positive value.
        """
        numbers = tuple(column for column in by if rows[column].dtype.is_numeric())
        categories = [column for column in by if column not in numbers]
        values = {column: rows[column].drop_nulls().cast(pl.String).unique().sort() for column in categories}
        levels = {column: tuple(names) for column, names in values.items() if len(names) <= MAX_LEVELS}
        logs = _positive_logs(rows[name])
        positive = np.isfinite(logs)
        if not positive.any():
            raise ValueError(
                f"The reference's column '{name}' has no positive value; it cannot be explained by other columns."
            )
        rows, logs = rows.filter(pl.Series(positive)), logs[positive]
        table = ExplainedColumn(name, numbers, levels, ())._design_matrix(rows)
        # Ridge penalty, since the levels of a category and the constant are collinear.
        square = table.T @ table + RIDGE * len(table) * np.eye(table.shape[1])
        weights = np.linalg.solve(square, table.T @ logs)
        residuals, effects = logs - table @ weights, {}
        for column in (column for column in values if column not in levels):
            effects[column] = RandomEffects.fit(rows[column], residuals)
            residuals = residuals - effects[column].predict(rows[column], residuals)
        spreads = np.linalg.solve(square, table.T @ np.abs(residuals))
        return ExplainedColumn(
            name=name,
            numbers=numbers,
            levels=levels,
            weights=tuple(weights.tolist()),
            spreads=tuple(spreads.tolist()),
            effects=effects,
        )

    def left(self, rows: pl.DataFrame, fitted: bool = False) -> np.ndarray:
        """Residuals ``[n]``: log of the value over the expected one, in units of the expected absolute residual of the row.

        NaN where there is no positive value.

        Args:
            rows: The rows.
            fitted: Whether these are the rows of the fit. Random effects are then predicted for each row from the
                others of its value, as they are for new rows.
        """
        logs, table = _positive_logs(rows[self.name]), self._design_matrix(rows)
        residuals = logs - table @ np.array(self.weights)
        for column, effect in self.effects.items():
            residuals = residuals - effect.predict(rows[column], residuals if fitted else None)
        return residuals / (np.maximum(table @ np.array(self.spreads), MIN_SPREAD) if self.spreads else 1.0)

    def with_residuals(self, rows: pl.DataFrame, fitted: bool = False) -> pl.DataFrame:
        """The rows with the residuals as an additional column."""
        return rows.with_columns(pl.Series(self.column, self.left(rows, fitted)))

    @property
    def column(self) -> str:
        return f"{self.name}_unexplained"

    def _design_matrix(self, rows: pl.DataFrame) -> np.ndarray:
        columns = [np.ones(len(rows))]
        for name in self.numbers:
            numbers = np.maximum(rows[name].cast(pl.Float64).to_numpy(), 0.0)
            columns.append(np.nan_to_num(np.log1p(numbers), posinf=0.0))
        for name, levels in self.levels.items():
            texts = rows[name].cast(pl.String)
            columns += [(texts == level).fill_null(False).to_numpy() for level in levels]
        return np.column_stack(columns).astype(np.float64)


def _positive_logs(values: pl.Series) -> np.ndarray:
    """Logarithms ``[n]``; NaN where the value is not positive and finite."""
    numbers = values.cast(pl.Float64).to_numpy()
    positive = np.isfinite(numbers) & (numbers > 0)
    return np.where(positive, np.log(np.where(positive, numbers, 1.0)), np.nan)
