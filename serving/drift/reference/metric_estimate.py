"""The metric before the labels are there: what it is in expectation if scores are probabilities, and how sure that is.

Labels of a window are drawn from the calibrated scores again and again; the metric's mean over the draws is the
estimate, their deviation its error of chance. It sees what changed in the inputs. Where the meaning of the inputs
changed (concept drift), it cannot see anything: only labels can.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, stats

Metric = Literal["pr_auc", "roc_auc", "accuracy"]
DRAWS = 100


@dataclass(frozen=True)
class Estimate:
    """A metric with its error.

    Attributes:
        value: The estimate, or what was measured.
        error: One standard deviation: of chance, and for an estimate of how well scores are calibrated.
        rows: How many it is about.
    """

    value: float
    error: float
    rows: int


@dataclass(frozen=True)
class Estimator:
    """Probabilities behind scores, and how wrong estimates were on labelled rows.

    Attributes:
        metric: What is estimated.
        knots, heights: Scores, ascending, and the chance at each; between them it is interpolated.
        bias_error: The estimate's difference from what was measured on held-out labelled rows, beyond chance.
    """

    metric: Metric
    knots: tuple[float, ...]
    heights: tuple[float, ...]
    bias_error: float

    @staticmethod
    def fit(metric: Metric, scores: np.ndarray, right: np.ndarray, seed: int = 0) -> "Estimator":
        """Calibrates on one half of labelled rows and checks on the other.

        Args:
            metric: ``accuracy`` takes the confidence in the predicted class, the others the score of the positive class.
            scores: ``[n]`` in 0..1.
            right: What came, 0 or 1, ``[n]``: the label, or for accuracy whether the prediction was right.
            seed: Of the draws.

        Raises:
            ValueError: if not both outcomes are there.
        """
        scores, right = np.asarray(scores, np.float64), np.asarray(right, np.float64)
        if metric != "accuracy" and len(np.unique(right)) < 2:
            raise ValueError(f"{metric} needs labelled rows of both classes; wait for more labels.")
        knots, heights = _isotonic(scores, right)
        off = []
        for half in (0, 1):
            fitted = Estimator(metric, *_isotonic(scores[half::2], right[half::2]), 0.0)
            held = (scores[1 - half :: 2], right[1 - half :: 2])
            found = fitted.estimate(held[0], seed)
            off.append((found.value - METRICS[metric](*held)) ** 2 - found.error**2)
        # Each half is checked on half of the rows; only what chance does not explain counts as bias.
        return Estimator(metric, knots, heights, float(np.sqrt(max(float(np.mean(off)), 0.0))))

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """The calibrated chance of each score, ``[n]``."""
        return np.interp(np.asarray(scores, np.float64), self.knots, self.heights)

    def estimate(self, scores: np.ndarray, seed: int = 0) -> Estimate:
        """The metric of rows whose labels are not known, ``[n]``; the same seed gives the same value."""
        rng, chance = np.random.default_rng(seed), self.probability(scores)
        order = np.argsort(-np.asarray(scores), kind="stable")
        drawn = [METRICS[self.metric](scores[order], rng.random(len(order)) < chance[order]) for _ in range(DRAWS)]
        value, spread = float(np.nanmean(drawn)), float(np.nanstd(drawn))
        return Estimate(value, float(np.hypot(spread, self.bias_error)), len(order))


def realised(metric: Metric, scores: np.ndarray, right: np.ndarray, rounds: int = DRAWS, seed: int = 0) -> Estimate:
    """The metric of labelled rows, with the error that bootstrap draws of them show."""
    rng, rows = np.random.default_rng(seed), len(scores)
    drawn = []
    for _ in range(rounds):
        chosen = rng.integers(0, rows, rows)
        drawn.append(METRICS[metric](scores[chosen], right[chosen]))
    return Estimate(METRICS[metric](scores, right), float(np.nanstd(drawn)), rows)


def pr_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Average precision: the area under precision over recall, in steps, equal scores taken together."""
    if not np.any(labels):
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits, last = np.cumsum(labels[order]), np.append(np.diff(scores[order]) != 0, True)
    taken, found = np.flatnonzero(last) + 1, hits[last]
    return float((np.diff(found, prepend=0) * found / taken).sum() / found[-1])


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The chance that a random positive scores above a random negative, ties counting half."""
    labels = np.asarray(labels, bool)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return float("nan")
    above = stats.rankdata(scores)[labels].sum() - positives * (positives + 1) / 2
    return float(above / positives / negatives)


def accuracy(scores: np.ndarray, right: np.ndarray) -> float:
    """Share of predictions that were right; the scores are not looked at."""
    return float(np.mean(right))


METRICS: dict[Metric, Callable[[np.ndarray, np.ndarray], float]] = {
    "pr_auc": pr_auc,
    "roc_auc": roc_auc,
    "accuracy": accuracy,
}


def _isotonic(scores: np.ndarray, right: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The likeliest rising curve, as the ends of its steps."""
    order = np.argsort(scores, kind="stable")
    x = scores[order]
    y = optimize.isotonic_regression(right[order]).x
    kept = np.append(True, np.diff(y) > 0) | np.append(np.diff(y) > 0, True)
    # Equal scores have one chance; the mean of theirs keeps the curve a function.
    knots, place = np.unique(x[kept], return_inverse=True)
    heights = np.bincount(place, y[kept]) / np.bincount(place)
    return tuple(knots.tolist()), tuple(heights.tolist())
