"""Labels that come late: joined to the predictions they belong to, and their rate judged as soon as they are ripe.

Frauds are reported within days and honest purchases are never reported, so a day's rate is known only when it is ripe.
What has been reported of younger days tells something too: the reference says which share is known at which age.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from serving.drift import statistics

RELIABLE = 3


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


@dataclass(frozen=True)
class Reports:
    """How many positives a day has, and how fast they become known.

    Attributes:
        known: Share of a day's positives that is known when it is so many days old, ascending to 1.
        rate: Positives a row, all known.
        rows: Of the reference.
        clumping: How much more the days' counts vary than independent rows would: positives come in bursts.
    """

    known: tuple[float, ...]
    rate: float
    rows: int
    clumping: float

    @staticmethod
    def of_days(rows: Sequence[int], counts: np.ndarray, block: int = 7) -> "Reports":
        """From ripe reference days.

        Args:
            rows: Of each day.
            counts: Positives of a day known at age 1, 2, ... days, ``[days, ages]``; the last age counts as ripe.
            block: Consecutive days over which clumping is measured, since a burst can last for days.

        Raises:
            ValueError: for fewer than ``RELIABLE`` blocks, or without a positive.
        """
        rows, counts = np.asarray(rows, np.float64), np.asarray(counts, np.float64)
        blocks = len(rows) // block
        if blocks < RELIABLE or not counts[:, -1].any():
            raise ValueError(f"A usual rate takes {RELIABLE * block} ripe days with positives; wait for more labels.")
        rate = counts[:, -1].sum() / rows.sum()
        sums = [one[: blocks * block].reshape(blocks, block).sum(axis=1) for one in (rows, counts[:, -1])]
        expected = sums[0] * rate
        within = ((counts[:, -1] - rows * rate) ** 2 / (rows * rate)).sum() / (len(rows) - 1)
        between = ((sums[1] - expected) ** 2 / expected).sum() / (blocks - 1)
        return Reports(
            tuple(counts.sum(axis=0) / counts[:, -1].sum()), float(rate), int(rows.sum()), float(max(within, between, 1.0))
        )

    def test(self, rows: Sequence[int], counts: Sequence[int]) -> tuple[float, float]:
        """Whether the last days have another rate of positives.

        Args:
            rows: Of the days that are 1, 2, ... days old; beyond the last age all count as ripe.
            counts: Positives of each that are known by now.

        Returns:
            An exact p-value, of counts divided by the clumping, and the rate over the usual one.
        """
        ages = np.minimum(np.arange(len(rows)), len(self.known) - 1)
        seen = float((np.asarray(rows) * np.array(self.known)[ages]).sum())
        hits, clump = float(np.sum(counts)), self.clumping
        if not seen:
            return 1.0, float("nan")
        p = statistics.same_rate(
            round(hits / clump), round(seen / clump), round(self.rate * self.rows / clump), round(self.rows / clump)
        )
        return p, hits / seen / self.rate
