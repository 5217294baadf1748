"""Late labels: test the rate of positives as early as labels allow, and whether their scores are lower than before.

Frauds are reported over days, and honest purchases are never reported. So the frauds of the last days that are known by
their end are compared with those of earlier spans of as many days, known by the end of those.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from serving.drift.alarms import distribution_distances

MIN_WINDOWS = 20  # smallest number of reference windows
CHANCE_SOURCES = 2  # customers with a positive at one merchant that may coincide by chance


def count_sources(customers: np.ndarray, places: np.ndarray) -> np.ndarray:
    """What each customer with a positive adds to the number of independent sources, ``[customers]``, each between 0 and 1.

    Positives come in bursts. All of one customer's positives are one source. At a place that many customers have in
    common, such as a merchant whose cards were copied, each customer is a fraction, so that the burst counts as two
    sources, which may coincide by chance.

    Args:
        customers, places: Integer ids of each positive row's customer and merchant, ``[n]``.
    """
    pairs = np.unique(np.stack([customers, places]), axis=1)
    _, place, victims = np.unique(pairs[1], return_inverse=True, return_counts=True)
    _, customer, rows = np.unique(pairs[0], return_inverse=True, return_counts=True)
    return np.bincount(customer, np.minimum(CHANCE_SOURCES / victims[place], 1.0)) / rows


@dataclass(frozen=True)
class PositiveRate:
    """Usual rate of independent sources of positives in a window, as reported by its end.

    Attributes:
        rate: Sources per row.
        rows: Number of rows of the reference.
        parts: Sum over sum of squares of what customers add: converts sources to an equivalent number of independent
            customers.
        clumping: Overdispersion: variance of the windows over that of independent customers, at least 1.
    """

    rate: float
    rows: int
    parts: float
    clumping: float

    @staticmethod
    def of_windows(rows: Sequence[int], source_counts: Sequence[np.ndarray], overlap: int = 1) -> "PositiveRate":
        """Estimate from reference windows.

        Args:
            rows: Number of rows of each window.
            source_counts: For each window, the result of :func:`sources` for the positives that were reported by its end.
            overlap: Number of windows that contain the same day, if they overlap.

        Raises:
            ValueError: for fewer than ``MIN_WINDOWS`` windows, or without a positive.
        """
        count, square = (np.array([(window**power).sum() for window in source_counts]) for power in (1, 2))
        if len(rows) < MIN_WINDOWS or not count.any():
            raise ValueError(
                f"The usual rate needs at least {MIN_WINDOWS} windows and a positive label; wait for more labels."
            )
        rate = count.sum() / np.sum(rows)
        clumping = float(((count - rate * np.asarray(rows)) ** 2).sum() / square.sum())
        return PositiveRate(
            float(rate), int(np.sum(rows) / overlap), float(count.sum() / square.sum()), max(clumping, 1.0)
        )

    def test(self, rows: int, source_counts: np.ndarray) -> tuple[float, float]:
        """Test whether a window has another rate of sources.

        Args:
            rows: Number of rows of the window.
            source_counts: Result of :func:`sources` for the window.

        Returns:
            p-value of Fisher's exact test, with counts scaled to independent customers, and the ratio of the rate to
            the usual one.
        """
        if not rows:
            return 1.0, float("nan")
        scale, count = self.parts / self.clumping, float(source_counts.sum())
        past = self.rate * self.rows, self.rows
        p = distribution_distances.fisher_exact(*(round(number * scale) for number in (count, rows, *past)))
        return p, count / rows / self.rate


def mann_whitney_lower(now: np.ndarray, past: np.ndarray, weights: np.ndarray, past_weights: np.ndarray) -> float:
    """One-sided Mann–Whitney test with weights: p-value of the hypothesis that ``now`` is not lower than ``past``.

    Weights account for values that come in bursts. The statistic is the weighted mean rank of each value among the
    past's. Returns 1 if either side is empty.

    Args:
        now, past: Values ``[n]`` and ``[m]``.
        weights, past_weights: Their weights ``[n]`` and ``[m]``.
    """
    if not len(now) or not len(past):
        return 1.0
    order = np.argsort(past)
    cumulative = np.concatenate([[0.0], np.cumsum(past_weights[order])]) / past_weights.sum()
    ranks = (
        cumulative[np.searchsorted(past[order], now)] + cumulative[np.searchsorted(past[order], now, side="right")]
    ) / 2
    variance = sum((side**2).sum() / side.sum() ** 2 for side in (weights, past_weights)) / 12
    return float(stats.norm.cdf((weights @ ranks / weights.sum() - 0.5) / np.sqrt(variance)))
