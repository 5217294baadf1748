"""Bootstrap confidence intervals of a metric, for several models on the same resamples of the rows."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

RESAMPLES = 200
LEVEL = 0.95
SEED = 1
CELLS = 4_000_000  # weights in memory at once

Weighted = Callable[[np.ndarray], np.ndarray]


class Interval(NamedTuple):
    """Bounds of the confidence interval of a metric at ``LEVEL``."""

    low: float
    high: float


def resample_metric(
    metric: str,
    quality: Callable[[np.ndarray, np.ndarray], Mapping[str, float]],
    truth: np.ndarray,
    scores: Mapping[str, np.ndarray],
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, np.ndarray]:
    """Compute the metric of every model on each resample, ``[resamples]``; all models share the same resamples.

    Args:
        metric: Its name in the result of ``quality``. Average precision and accuracy are vectorised over resamples; any
            other metric is computed by ``quality``, one resample after the other.
        quality: The case's metrics of truth ``[rows, 1]`` and scores ``[rows, outputs]``.
        truth: Class of each row, ``[rows, 1]``.
        scores: ``[rows, outputs]`` by model.
        resamples: Number of resamples.
        seed: The same seed gives the same resamples.
    """
    by_model = {name: _make_measure(metric, quality, truth, values) for name, values in scores.items()}
    parts = [
        {name: measure(weights) for name, measure in by_model.items()}
        for weights in draw_weights(truth[:, 0], resamples, seed)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in scores}


def interval(values: np.ndarray, level: float = LEVEL) -> Interval:
    """Percentile interval (Efron 1979) of a metric's values on the resamples."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def draw_weights(classes: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield row weights, the number of times each row was drawn, ``[block of resamples, rows]``, one block at a time.

    Rows are drawn with replacement within each class, so that a resample has as many frauds as the split.
    """
    generator = np.random.default_rng(seed)
    strata = [np.flatnonzero(classes == value) for value in np.unique(classes)]
    block = max(1, CELLS // len(classes))
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        weights = np.empty((count, len(classes)), np.float32)
        for rows in strata:
            # One bincount for all resamples of the block: each has its own range of numbers.
            drawn = generator.integers(len(rows), size=(count, len(rows))) + np.arange(count)[:, None] * len(rows)
            weights[:, rows] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(count, len(rows))
        yield weights


def average_precision(truth: np.ndarray, scores: np.ndarray) -> Weighted:
    """Return a function from row weights ``[n, rows]`` to the average precision ``[n]`` of scores ``[rows, 1]``.

    The scores are sorted once.
    """
    order = np.argsort(-scores[:, 0], kind="stable")
    ordered, positive = scores[order, 0], truth[order, 0] == 1
    # Rows with equal scores are on the same side of every threshold: only the last is a point of the curve.
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)

    def measure(weights: np.ndarray) -> np.ndarray:
        drawn = weights[:, order].astype(np.float64)
        flagged = np.cumsum(drawn, axis=1)[:, ends]
        caught = np.cumsum(drawn * positive, axis=1)[:, ends]
        precision = caught / np.maximum(flagged, 1)
        recovered = np.diff(caught, axis=1, prepend=0.0)
        return np.sum(recovered * precision, axis=1) / caught[:, -1]

    return measure


def accuracy(truth: np.ndarray, scores: np.ndarray) -> Weighted:
    """Return a function from row weights ``[n, rows]`` to the accuracy ``[n]`` of scores ``[rows, classes]``."""
    right = (np.argmax(scores, axis=1) == truth[:, 0]).astype(np.float64)
    return lambda weights: weights @ right / weights.sum(axis=1)


def _make_measure(metric: str, quality: Any, truth: np.ndarray, scores: np.ndarray) -> Weighted:
    vectorised = {"pr_auc": average_precision, "accuracy": accuracy}
    if metric in vectorised:
        return vectorised[metric](truth, scores)

    def measure(weights: np.ndarray) -> np.ndarray:
        samples = (np.repeat(np.arange(len(truth)), counts.astype(int)) for counts in weights)
        return np.array([quality(truth[rows], scores[rows])[metric] for rows in samples])

    return measure
