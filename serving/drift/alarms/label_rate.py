"""Labels that come late: joined to the predictions they belong to, and their rate judged as soon as they are ripe.

Frauds are reported within days and honest purchases are never reported. So what is known of the last days by their end is
held against what was known of as many days before, by the end of those.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from serving.drift.alarms import distribution_distances

RELIABLE = 20
MEET = 2  # customers with a positive at one place, by chance


def joined(predictions: pl.DataFrame, labels: pl.DataFrame, key: str) -> pl.DataFrame:
    """Predictions with the label of their key, those without one left out; a label that comes twice counts once.

    Raises:
        ValueError: if two labels of one key differ.
    """
    once = labels.drop_nulls().unique()
    if once[key].is_duplicated().any():
        which = once.filter(once[key].is_duplicated())[key][0]
        raise ValueError(f"'{which}' has two labels that differ; keep the later one.")
    return predictions.join(once, on=key, how="inner", maintain_order="left")


def sources(customers: np.ndarray, places: np.ndarray) -> np.ndarray:
    """What each customer with a positive adds to the number of sources, ``[customers]``: a part of 1.

    Positives come in bursts. One customer's are one; of a place that many customers have in common, such as a shop whose
    cards were copied, each is a small part, so that the burst counts as two, which may meet by chance.

    Args:
        customers, places: Of each positive row, as integers ``[n]``.
    """
    pairs = np.unique(np.stack([customers, places]), axis=1)
    _, place, victims = np.unique(pairs[1], return_inverse=True, return_counts=True)
    _, customer, rows = np.unique(pairs[0], return_inverse=True, return_counts=True)
    return np.bincount(customer, np.minimum(MEET / victims[place], 1.0)) / rows


@dataclass(frozen=True)
class Reports:
    """How many sources of positives a window has, known by its end.

    Attributes:
        rate: Sources a row.
        rows: Of the reference.
        parts: Sum over sum of squares of what customers add: of so many independent ones a source seems to consist.
        clumping: How much more windows vary than independent customers would make them.
    """

    rate: float
    rows: int
    parts: float
    clumping: float

    @staticmethod
    def of_windows(rows: Sequence[int], found: Sequence[np.ndarray], overlap: int = 1) -> "Reports":
        """From reference windows.

        Args:
            rows: Of each window.
            found: Of each window what :func:`sources` gives for the positives known by its end.
            overlap: Windows that hold a day, where they overlap.

        Raises:
            ValueError: for fewer than ``RELIABLE`` windows, or without a positive.
        """
        count, square = (np.array([(one**power).sum() for one in found]) for power in (1, 2))
        if len(rows) < RELIABLE or not count.any():
            raise ValueError(f"A usual rate takes {RELIABLE} windows with positives; wait for more labels.")
        rate = count.sum() / np.sum(rows)
        clumping = float(((count - rate * np.asarray(rows)) ** 2).sum() / square.sum())
        return Reports(float(rate), int(np.sum(rows) / overlap), float(count.sum() / square.sum()), max(clumping, 1.0))

    def test(self, rows: int, found: np.ndarray) -> tuple[float, float]:
        """Whether a window has another rate of sources.

        Returns:
            An exact p-value, of counts as of independent customers, and the rate over the usual one.
        """
        if not rows:
            return 1.0, float("nan")
        scale, count = self.parts / self.clumping, float(found.sum())
        past = self.rate * self.rows, self.rows
        p = distribution_distances.same_rate(*(round(one * scale) for one in (count, rows, *past)))
        return p, count / rows / self.rate
