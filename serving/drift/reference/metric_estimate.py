"""Estimate of a metric without labels: its expectation if calibrated scores are probabilities, with a standard error.

Labels of a window are drawn repeatedly from the calibrated scores; the mean of the metric over the draws is the
estimate, their standard deviation its sampling error. The estimate reflects changes of the inputs (covariate shift). It
cannot detect a change of what the inputs mean (concept drift): that needs labels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, stats

Metric = Literal["pr_auc", "roc_auc", "accuracy"]
DRAWS = 100


@dataclass(frozen=True)
class MetricEstimate:
    """A metric with its error.

    Attributes:
        value: Estimated or measured value.
        error: One standard deviation: sampling error, and for an estimate also the calibration error.
        rows: Number of rows.
    """

    value: float
    error: float
    rows: int


@dataclass(frozen=True)
class MetricEstimator:
    """Calibration curve of the scores, and the error of estimates on labelled rows.

    Attributes:
        metric: Metric that is estimated.
        knots, heights: Ascending scores and the calibrated probability at each; linear interpolation between them.
        bias_error: Difference between estimate and measurement on held-out labelled rows, beyond sampling error.
    """

    metric: Metric
    knots: tuple[float, ...]
    heights: tuple[float, ...]
    bias_error: float

    @staticmethod
    def fit(metric: Metric, scores: np.ndarray, right: np.ndarray, seed: int = 0) -> "MetricEstimator":
        """Calibrate on one half of the labelled rows and check on the other, both ways.

        Args:
            metric: ``accuracy`` takes the confidence in the predicted class, the others the score of the positive
                class.
            scores: ``[n]`` in 0..1.
            right: Outcome, 0 or 1, ``[n]``: the label, or for accuracy whether the prediction was correct.
            seed: Seed of the draws.

        Raises:
            ValueError: if the labels of a ranking metric are all equal.
        """
        scores, right = np.asarray(scores, np.float64), np.asarray(right, np.float64)
        if metric != "accuracy" and len(np.unique(right)) < 2:
            raise ValueError(f"{metric} needs labelled rows of both classes; wait for more labels.")
        knots, heights = _isotonic(scores, right)
        squared_biases = []
        for half in (0, 1):
            fitted = MetricEstimator(metric, *_isotonic(scores[half::2], right[half::2]), 0.0)
            test_half = (scores[1 - half :: 2], right[1 - half :: 2])
            estimate = fitted.estimate(test_half[0], seed)
            squared_biases.append((estimate.value - METRICS[metric](*test_half)) ** 2 - estimate.error**2)
        # Only the part of the squared difference that sampling error does not explain counts as bias.
        return MetricEstimator(metric, knots, heights, float(np.sqrt(max(float(np.mean(squared_biases)), 0.0))))

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """Calibrated probability of each score, ``[n]``."""
        return np.interp(np.asarray(scores, np.float64), self.knots, self.heights)

    def estimate(self, scores: np.ndarray, seed: int = 0) -> MetricEstimate:
        """Estimate the metric of unlabelled rows from their scores ``[n]``; deterministic for a given seed."""
        rng, probability = np.random.default_rng(seed), self.probability(scores)
        order = np.argsort(-np.asarray(scores), kind="stable")
        draws = [METRICS[self.metric](scores[order], rng.random(len(order)) < probability[order]) for _ in range(DRAWS)]
        value, spread = float(np.nanmean(draws)), float(np.nanstd(draws))
        return MetricEstimate(value, float(np.hypot(spread, self.bias_error)), len(order))


def measure_metric(
    metric: Metric, scores: np.ndarray, right: np.ndarray, rounds: int = DRAWS, seed: int = 0
) -> MetricEstimate:
    """Measure the metric on labelled rows ``[n]``; its error is the bootstrap standard error."""
    rng, rows = np.random.default_rng(seed), len(scores)
    draws = []
    for _ in range(rounds):
        chosen = rng.integers(0, rows, rows)
        draws.append(METRICS[metric](scores[chosen], right[chosen]))
    return MetricEstimate(METRICS[metric](scores, right), float(np.nanstd(draws)), rows)


def pr_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Average precision: area under the precision-recall curve as a step function; tied scores are one step."""
    if not np.any(labels):
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits, last = np.cumsum(labels[order]), np.append(np.diff(scores[order]) != 0, True)
    predicted_positive, true_positive = np.flatnonzero(last) + 1, hits[last]
    return float((np.diff(true_positive, prepend=0) * true_positive / predicted_positive).sum() / true_positive[-1])


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Probability that a random positive scores above a random negative; ties count half."""
    labels = np.asarray(labels, bool)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return float("nan")
    above = stats.rankdata(scores)[labels].sum() - positives * (positives + 1) / 2
    return float(above / positives / negatives)


def accuracy(scores: np.ndarray, right: np.ndarray) -> float:
    """Share of correct predictions; the scores are not used."""
    return float(np.mean(right))


METRICS: dict[Metric, Callable[[np.ndarray, np.ndarray], float]] = {
    "pr_auc": pr_auc,
    "roc_auc": roc_auc,
    "accuracy": accuracy,
}


def _isotonic(scores: np.ndarray, right: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Isotonic regression of outcomes on scores, as the ends of its steps."""
    order = np.argsort(scores, kind="stable")
    x = scores[order]
    y = optimize.isotonic_regression(right[order]).x
    step_ends = np.append(True, np.diff(y) > 0) | np.append(np.diff(y) > 0, True)
    # Tied scores get the mean of their probabilities, so that the curve is a function.
    knots, index = np.unique(x[step_ends], return_inverse=True)
    heights = np.bincount(index, y[step_ends]) / np.bincount(index)
    return tuple(knots.tolist()), tuple(heights.tolist())
