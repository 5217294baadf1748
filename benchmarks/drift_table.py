"""The random table on which drift detection is timed."""

import numpy as np
import polars as pl

COLUMNS, NAMES = 15, 4


def make_random_table(rows: int, seed: int = 0) -> pl.DataFrame:
    """Return random rows of 15 columns: 11 of numbers, 4 of text with a dozen values."""
    rng, names = np.random.default_rng(seed), pl.Series([f"value {i}" for i in range(12)])
    numbers = {f"x{i}": rng.lognormal(3, 1, rows).round(2) for i in range(COLUMNS - NAMES)}
    return pl.DataFrame(numbers | {f"c{i}": names.gather(rng.integers(0, 12, rows)) for i in range(NAMES)})
