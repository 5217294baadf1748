"""How sure a metric is: bootstrap intervals over the rows it was measured on, for several models on the same draws."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

RESAMPLES = 200
LEVEL = 0.95
SEED = 1
CELLS = 4_000_000  # weights in memory at once

Weighted = Callable[[np.ndarray], np.ndarray]


class Interval(NamedTuple):
    """Where the metric of other rows of the same kind would lie, ``LEVEL`` of the time."""

    low: float
    high: float


def resampled(
    metric: str,
    quality: Callable[[np.ndarray, np.ndarray], Mapping[str, float]],
    truth: np.ndarray,
    scores: Mapping[str, np.ndarray],
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, np.ndarray]:
    """The metric of every model on each resample, ``[resamples]``; the draws are the same for all models.

    Args:
        metric: Its name, as ``quality`` gives it. Average precision and accuracy are computed for many resamples at
            once; any other is computed by ``quality``, one resample after the other.
        quality: The case's metrics of truth ``[rows, 1]`` and scores ``[rows, outputs]``.
        truth: Class of each row, ``[rows, 1]``.
        scores: ``[rows, outputs]`` by model.
        resamples: How many draws.
        seed: Same seed, same draws.
    """
    by_model = {name: _measure(metric, quality, truth, values) for name, values in scores.items()}
    parts = [
        {name: measure(weights) for name, measure in by_model.items()}
        for weights in draws(truth[:, 0], resamples, seed)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in scores}


def interval(values: np.ndarray, level: float = LEVEL) -> Interval:
    """The percentile interval (Efron 1979) of a metric's values on the resamples."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def draws(classes: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each row was drawn, ``[some resamples, rows]``, a block of resamples at a time.

    Rows are drawn with replacement within each class, so that a resample has as many frauds as the split.
    """
    made = np.random.default_rng(seed)
    strata = [np.flatnonzero(classes == one) for one in np.unique(classes)]
    block = max(1, CELLS // len(classes))
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        weights = np.empty((count, len(classes)), np.float32)
        for rows in strata:
            # One bincount for all resamples of the block: each has numbers of its own.
            drawn = made.integers(len(rows), size=(count, len(rows))) + np.arange(count)[:, None] * len(rows)
            weights[:, rows] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(count, len(rows))
        yield weights


def average_precision(truth: np.ndarray, scores: np.ndarray) -> Weighted:
    """Average precision of scores ``[rows, 1]`` as a function of row weights ``[n, rows]``, to ``[n]``; sorts once."""
    order = np.argsort(-scores[:, 0], kind="stable")
    ordered, positive = scores[order, 0], truth[order, 0] == 1
    # Rows of one score fall on the same side of every threshold: only the last of them is a point of the curve.
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)

    def measure(weights: np.ndarray) -> np.ndarray:
        drawn = weights[:, order].astype(np.float64)
        stopped = np.cumsum(drawn, axis=1)[:, ends]
        caught = np.cumsum(drawn * positive, axis=1)[:, ends]
        precision = caught / np.maximum(stopped, 1)
        gained = np.diff(caught, axis=1, prepend=0.0)
        return np.sum(gained * precision, axis=1) / caught[:, -1]

    return measure


def accuracy(truth: np.ndarray, scores: np.ndarray) -> Weighted:
    """The share of rows whose largest score ``[rows, classes]`` is the true class's, of weights ``[n, rows]``."""
    right = (np.argmax(scores, axis=1) == truth[:, 0]).astype(np.float64)
    return lambda weights: weights @ right / weights.sum(axis=1)


def _measure(metric: str, quality: Any, truth: np.ndarray, scores: np.ndarray) -> Weighted:
    known = {"pr_auc": average_precision, "accuracy": accuracy}
    if metric in known:
        return known[metric](truth, scores)

    def measure(weights: np.ndarray) -> np.ndarray:
        picked = (np.repeat(np.arange(len(truth)), one.astype(int)) for one in weights)
        return np.array([quality(truth[rows], scores[rows])[metric] for rows in picked])

    return measure
