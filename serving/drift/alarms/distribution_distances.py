"""How far two distributions lie apart, and how likely that is by chance.

Distances take counts or shares ``[k]`` over the same bins; KL, Jensen–Shannon and PSI are in nats and add half a row to
each bin, so that an empty one costs much and not everything.
"""

import numpy as np
from scipy import special, stats

HALF = 0.5


def shares(counts: np.ndarray, prior: float = HALF) -> np.ndarray:
    """Counts ``[k]`` as shares that add up to 1, ``prior`` rows added to each bin.

    Raises:
        ValueError: if nothing is there.
    """
    filled = np.asarray(counts, np.float64) + prior
    if filled.sum() <= 0:
        raise ValueError("Shares of no rows are not defined; compare windows that hold some.")
    return filled / filled.sum()


def kullback_leibler(now: np.ndarray, reference: np.ndarray, prior: float = HALF) -> float:
    """What coding ``now`` by the reference's shares costs, in nats."""
    return float(special.rel_entr(shares(now, prior), shares(reference, prior)).sum())


def jensen_shannon(now: np.ndarray, reference: np.ndarray, prior: float = HALF) -> float:
    """Mean divergence of both from their middle, in nats, 0 to ln 2; its root is a metric."""
    p, q = shares(now, prior), shares(reference, prior)
    middle = (p + q) / 2
    return float(special.rel_entr(p, middle).sum() + special.rel_entr(q, middle).sum()) / 2


def kolmogorov_smirnov(now: np.ndarray, reference: np.ndarray) -> float:
    """Largest distance of the cumulative shares at the bins' edges, 0 to 1; bins are in order."""
    return float(np.abs(np.cumsum(shares(now, 0.0)) - np.cumsum(shares(reference, 0.0))).max())


def linf(now: np.ndarray, reference: np.ndarray) -> float:
    """Largest difference of a bin's share, 0 to 1."""
    return float(np.abs(shares(now, 0.0) - shares(reference, 0.0)).max())


def population_stability(now: np.ndarray, reference: np.ndarray, prior: float = HALF) -> float:
    """The symmetric sum of both Kullback–Leibler divergences, in nats."""
    p, q = shares(now, prior), shares(reference, prior)
    return float(((p - q) * np.log(p / q)).sum())


def chi_squared(now: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Pearson's statistic of two samples of independent rows over ``[k]`` bins, and its p-value."""
    return _contingency(now, reference, None)


def g_test(now: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """The likelihood ratio of the same table, and its p-value."""
    return _contingency(now, reference, "log-likelihood")


def _contingency(now: np.ndarray, reference: np.ndarray, measure: str | None) -> tuple[float, float]:
    table = np.stack([np.asarray(now), np.asarray(reference)]).astype(np.float64)
    table = table[:, table.sum(axis=0) > 0]
    if not table.sum(axis=1).all():
        raise ValueError("A test needs rows on both sides.")
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    if measure is None:
        statistic = float(((table - expected) ** 2 / expected).sum())
    else:
        statistic = float(2 * special.rel_entr(table, expected).sum())
    return statistic, float(stats.chi2.sf(statistic, max(table.shape[1] - 1, 1)))


def binomial(hits: int, trials: int, rate: float) -> float:
    """Two-sided exact p-value of ``hits`` in ``trials`` independent ones under a known rate."""
    return float(stats.binomtest(hits, trials, rate).pvalue)


def same_rate(hits: int, trials: int, past_hits: int, past_trials: int) -> float:
    """Two-sided exact p-value that two rates are one, the past's not known exactly: Fisher's test."""
    table = [[hits, trials - hits], [past_hits, past_trials - past_hits]]
    return float(stats.fisher_exact(table).pvalue)


def lower(now: np.ndarray, past: np.ndarray, weights: np.ndarray, past_weights: np.ndarray) -> float:
    """One-sided p-value that values ``[n]`` are not lower than the past's ``[m]``; 1 without values.

    Mann and Whitney's test where values count by weights, since some come in bursts: each value's place among the past's.
    """
    if not len(now) or not len(past):
        return 1.0
    order = np.argsort(past)
    below = np.concatenate([[0.0], np.cumsum(past_weights[order])]) / past_weights.sum()
    place = (below[np.searchsorted(past[order], now)] + below[np.searchsorted(past[order], now, side="right")]) / 2
    variance = sum((one**2).sum() / one.sum() ** 2 for one in (weights, past_weights)) / 12
    return float(stats.norm.cdf((weights @ place / weights.sum() - 0.5) / np.sqrt(variance)))


def interval(hits: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's exact bounds of a rate."""
    found = stats.binomtest(hits, trials).proportion_ci(level, "exact")
    return float(found.low), float(found.high)


def holm(p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Adjusted p-values ``[m]``: those at most alpha hold together with a chance of a false one of at most alpha.

    Args:
        p: The p-values ``[m]``.
        weights: Each test's part of alpha, positive ``[m]``; the same for all by default.
    """
    p = np.asarray(p, np.float64)
    weights = np.ones(len(p)) if weights is None else np.asarray(weights, np.float64)
    order = np.argsort(p / weights, kind="stable")
    left = np.cumsum(weights[order][::-1])[::-1]
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(left * (p / weights)[order]), 1.0)
    return adjusted


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values ``[m]``: among those at most alpha, a share of at most alpha is false in the mean."""
    p = np.asarray(p, np.float64)
    order = np.argsort(-p, kind="stable")
    stepped = np.minimum.accumulate(len(p) / (len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
