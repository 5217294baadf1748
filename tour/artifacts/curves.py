"""What every threshold would have done on the eval split: counts from the scores that the run kept, exact and few.

A threshold is one of the scores, so each line of a table is what a model with that threshold would have decided; between two
lines nothing is interpolated.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

LINES = 240  # of a table; the scores of the rare class are kept before others


def table(truth: np.ndarray, scores: np.ndarray, served: float) -> dict[str, Any]:
    """Counts by threshold, from one that stops nothing to one that stops all.

    Args:
        truth: 0 or 1, ``[rows]``.
        scores: ``[rows]``; at or above a threshold a row is stopped.
        served: The threshold that answers now, which is one of the lines.

    Returns:
        ``threshold``, ``tp`` and ``fp``, equally long lists, thresholds falling; ``positives`` and ``negatives``; ``served``,
        the line of the served threshold; ``roc`` and ``pr``, areas over all distinct scores.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, right = scores[order].astype(np.float64), truth[order] > 0.5
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # of each distinct score the last row
    tp, fp = np.cumsum(right)[last], np.cumsum(~right)[last]
    kept = _kept(ordered[last], ordered[right], served)
    thresholds = np.concatenate([[_above(ordered)], ordered[last][kept]])
    rows = [thresholds, np.concatenate([[0], tp[kept]]), np.concatenate([[0], fp[kept]])]
    stopped = scores >= np.float32(served)
    at = int(np.searchsorted(-thresholds, -served))
    exact = (served, int(np.sum(stopped & (truth > 0.5))), int(np.sum(stopped & (truth <= 0.5))))
    told = [np.insert(values.astype(float), at, one).tolist() for values, one in zip(rows, exact, strict=True)]
    positives, negatives = int(right.sum()), int((~right).sum())
    return {
        "threshold": told[0],
        "tp": [int(one) for one in told[1]],
        "fp": [int(one) for one in told[2]],
        "positives": positives,
        "negatives": negatives,
        "served": at,
        **areas(tp, fp, positives, negatives),
    }


def areas(tp: np.ndarray, fp: np.ndarray, positives: int, negatives: int) -> dict[str, float]:
    """ROC area by trapezes and PR area as average precision, both over every distinct score; NaN without both classes."""
    if not positives or not negatives:
        return {"roc": float("nan"), "pr": float("nan")}
    recall = np.concatenate([[0.0], tp / positives])
    precision = tp / np.maximum(tp + fp, 1)
    roc = np.trapezoid(recall, np.concatenate([[0.0], fp / negatives]))
    return {"roc": float(roc), "pr": float(np.sum(np.diff(recall) * precision))}


def confidence(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """How many rows would be answered, and how many of them rightly, if a model was silent below a probability.

    Args:
        truth: Index of the class, ``[rows]``.
        probabilities: ``[rows, classes]``.

    Returns:
        ``threshold``, ``answered`` and ``right``, thresholds falling to 0; ``rows``; and ``matrix``, counts of truth by answer.
    """
    best, sure = probabilities.argmax(axis=1), probabilities.max(axis=1).astype(np.float64)
    order = np.argsort(-sure, kind="stable")
    ordered, right = sure[order], (best == truth)[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    kept = last if len(last) <= LINES else last[_spread(len(last), LINES)]
    matrix = np.zeros((probabilities.shape[1],) * 2, int)
    np.add.at(matrix, (truth.astype(int), best), 1)
    return {
        "threshold": [*ordered[kept].tolist(), 0.0],
        "answered": [*(kept + 1).tolist(), len(truth)],
        "right": [*np.cumsum(right)[kept].tolist(), int(right.sum())],
        "rows": len(truth),
        "matrix": matrix.tolist(),
    }


def rates(told: Mapping[str, Any], at: int) -> dict[str, float]:
    """Rates and counts of one line of a table; what would divide by nothing is NaN."""
    tp, fp = told["tp"][at], told["fp"][at]
    fn, tn = told["positives"] - tp, told["negatives"] - fp
    return {
        "threshold": told["threshold"][at],
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "tn": tn,
        "recall": _share(tp, told["positives"]),
        "fpr": _share(fp, told["negatives"]),
        "precision": _share(tp, tp + fp),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def kept_scores(folder: Path) -> dict[str, np.ndarray]:
    """Truth ``[rows]`` and every model's scores ``[rows, outputs]`` of the eval split, by name; empty where none are kept."""
    path = folder / "scores.npz"
    if not path.is_file():
        return {}
    with np.load(path) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    return found | {"truth": found["truth"].reshape(-1)}


def sent(told: Mapping[str, Any], prices: Mapping[str, float]) -> str:
    """A table and the prices of errors as JSON for the page's script; what is not finite is left out."""
    plain = {name: value for name, value in told.items() if not (isinstance(value, float) and not np.isfinite(value))}
    return json.dumps(plain | {"prices": dict(prices)})


def _kept(distinct: np.ndarray, positives: np.ndarray, served: float) -> np.ndarray:
    """Places of the thresholds to keep, without the served one: half by the positives' scores, half by all."""
    if len(distinct) <= LINES:
        kept = np.arange(len(distinct))
    else:
        wanted = positives[_spread(len(positives), LINES // 2)] if len(positives) else distinct[:0]
        by_positives = np.searchsorted(-distinct, -wanted)
        kept = np.unique(np.concatenate([by_positives, _spread(len(distinct), LINES // 2)]))
    return kept[distinct[kept] != served]


def _spread(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))


def _above(ordered: np.ndarray) -> float:
    """A threshold that stops nothing."""
    return float(max(1.0, np.nextafter(ordered[0], np.inf)) if len(ordered) else 1.0)
