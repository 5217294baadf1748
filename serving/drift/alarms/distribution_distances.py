"""Distances between two distributions, and tests of the hypothesis that they are equal.

Distances take counts or shares ``[k]`` over the same bins. KL, Jensen–Shannon and PSI are in nats and add half a row to
each bin, so that an empty bin gives a large but finite value.
"""

import numpy as np
from scipy import special, stats

HALF = 0.5


def shares(counts: np.ndarray, prior: float = HALF) -> np.ndarray:
    """Counts ``[k]`` as shares that add up to 1, after ``prior`` rows are added to each bin.

    Raises:
        ValueError: if the sum is not positive.
    """
    filled = np.asarray(counts, np.float64) + prior
    if filled.sum() <= 0:
        raise ValueError("Shares of zero rows are not defined; compare windows that have rows.")
    return filled / filled.sum()


def kullback_leibler(now: np.ndarray, reference: np.ndarray, prior: float = HALF) -> float:
    """Kullback–Leibler divergence of ``now`` from the reference, in nats."""
    return float(special.rel_entr(shares(now, prior), shares(reference, prior)).sum())


def jensen_shannon(now: np.ndarray, reference: np.ndarray, prior: float = HALF) -> float:
    """Jensen–Shannon divergence, in nats, 0 to ln 2; its square root is a metric."""
    p, q = shares(now, prior), shares(reference, prior)
    middle = (p + q) / 2
    return float(special.rel_entr(p, middle).sum() + special.rel_entr(q, middle).sum()) / 2


def kolmogorov_smirnov(now: np.ndarray, reference: np.ndarray) -> float:
    """Kolmogorov–Smirnov distance: largest difference of the cumulative shares ``[k]`` of ordered bins, 0 to 1."""
    return float(np.abs(np.cumsum(shares(now, 0.0)) - np.cumsum(shares(reference, 0.0))).max())


def linf(now: np.ndarray, reference: np.ndarray) -> float:
    """L-infinity distance: largest difference of a bin's share, 0 to 1."""
    return float(np.abs(shares(now, 0.0) - shares(reference, 0.0)).max())


def population_stability(now: np.ndarray, reference: np.ndarray, prior: float = HALF) -> float:
    """Population stability index (PSI): the sum of the Kullback–Leibler divergences in both directions, in nats."""
    p, q = shares(now, prior), shares(reference, prior)
    return float(((p - q) * np.log(p / q)).sum())


def fisher_exact(hits: int, trials: int, past_hits: int, past_trials: int) -> float:
    """Fisher's exact test, two-sided: p-value of the hypothesis that the rates now and in the past are equal."""
    table = [[hits, trials - hits], [past_hits, past_trials - past_hits]]
    return float(stats.fisher_exact(table).pvalue)


def holm(p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Holm's adjusted p-values ``[m]``: rejecting those at most alpha keeps the family-wise error rate at alpha.

    Args:
        p: The p-values ``[m]``.
        weights: Each test's fraction of alpha, positive ``[m]``; equal by default.
    """
    p = np.asarray(p, np.float64)
    weights = np.ones(len(p)) if weights is None else np.asarray(weights, np.float64)
    order = np.argsort(p / weights, kind="stable")
    remaining = np.cumsum(weights[order][::-1])[::-1]
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(remaining * (p / weights)[order]), 1.0)
    return adjusted


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Benjamini–Hochberg's adjusted p-values ``[m]``: rejecting those at most alpha keeps the false discovery rate there."""
    p = np.asarray(p, np.float64)
    order = np.argsort(-p, kind="stable")
    stepped = np.minimum.accumulate(len(p) / (len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
