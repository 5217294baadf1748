"""What a column would be, given others: what is left varies less from day to day, so that a small shift shows.

Prices that rise by a twentieth drown in who happened to shop where; against what this customer usually spends on this
kind of thing they do not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

SLIGHT = 1e-6
SMALLEST = 0.05  # of what is left in the mean, for rows unlike all that were fitted


@dataclass(frozen=True)
class Expected:
    """A least-squares fit of a column's logarithm.

    Attributes:
        name: The column explained; what is left is ``name_unexplained``.
        numbers: Columns that explain it, by their ``log1p``.
        levels: Known values of the categories that explain it.
        weights: A constant, then a weight a number, then one a level.
        spreads: The same of what is left without its sign: rows that are hard to foresee have less of a say.
    """

    name: str
    numbers: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]
    weights: tuple[float, ...]
    spreads: tuple[float, ...] = ()

    @staticmethod
    def fit(rows: pl.DataFrame, name: str, by: Sequence[str]) -> "Expected":
        """Fits on the reference; rows without a positive value are left out.

        Raises:
            ValueError: if no row has one.
        """
        numbers = tuple(one for one in by if rows[one].dtype.is_numeric())
        levels = {
            one: tuple(sorted(rows[one].drop_nulls().cast(pl.String).unique().to_list())) for one in by if one not in numbers
        }
        empty = Expected(name, numbers, levels, ())
        values = rows[name].cast(pl.Float64).to_numpy()
        there = np.isfinite(values) & (values > 0)
        if not there.any():
            raise ValueError(f"The reference's column '{name}' has no positive value; it cannot be explained by others.")
        table = empty._table(rows.filter(pl.Series(there)))
        # A little ridge: one level of each category follows from the others.
        square = table.T @ table + SLIGHT * len(table) * np.eye(table.shape[1])
        logs = np.log(values[there])
        weights = np.linalg.solve(square, table.T @ logs)
        spreads = np.linalg.solve(square, table.T @ np.abs(logs - table @ weights))
        return Expected(name, numbers, levels, tuple(weights.tolist()), tuple(spreads.tolist()))

    def left(self, rows: pl.DataFrame) -> np.ndarray:
        """Logarithm of the value over the expected one, in what it usually is off by for such a row, ``[n]``.

        Not a number where there is no positive value.
        """
        values = rows[self.name].cast(pl.Float64).to_numpy()
        there = np.isfinite(values) & (values > 0)
        table = self._table(rows)
        off = np.log(np.where(there, values, 1.0)) - table @ np.array(self.weights)
        usual = np.maximum(table @ np.array(self.spreads), SMALLEST) if self.spreads else 1.0
        return np.where(there, off / usual, np.nan)

    def added(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with what is left as one more column."""
        return rows.with_columns(pl.Series(self.column, self.left(rows)))

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
