"""Counts of decisions at every threshold on the eval split, from the scores that the run stored.

Every threshold is one of the scores, so each row of a table is exact; nothing is interpolated between rows.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

MAX_ROWS = 240  # largest number of rows of a table; scores of the rare class are preferred


def threshold_table(truth: np.ndarray, scores: np.ndarray, served: float) -> dict[str, Any]:
    """Counts by threshold, from one that flags no row to one that flags all.

    Args:
        truth: Labels 0 or 1, ``[rows]``.
        scores: ``[rows]``; a score of at least the threshold flags the row.
        served: Threshold that is served now; it becomes a row of the table.

    Returns:
        ``threshold``, ``tp`` and ``fp``, lists of equal length, thresholds descending; ``positives`` and ``negatives``;
        ``served``, the index of the served threshold; ``roc`` and ``pr``, areas under the curves over all distinct
        scores.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, positive = scores[order].astype(np.float64), truth[order] > 0.5
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # last row of each distinct score
    tp, fp = np.cumsum(positive)[last], np.cumsum(~positive)[last]
    selected = _select_thresholds(ordered[last], ordered[positive], served)
    thresholds = np.concatenate([[_threshold_above(ordered)], ordered[last][selected]])
    sampled = [thresholds, np.concatenate([[0], tp[selected]]), np.concatenate([[0], fp[selected]])]
    flagged = scores >= np.float32(served)
    at = int(np.searchsorted(-thresholds, -served))
    exact = (served, int(np.sum(flagged & (truth > 0.5))), int(np.sum(flagged & (truth <= 0.5))))
    columns = [
        np.insert(values.astype(float), at, value).tolist() for values, value in zip(sampled, exact, strict=True)
    ]
    positives, negatives = int(positive.sum()), int((~positive).sum())
    return {
        "threshold": columns[0],
        "tp": [int(count) for count in columns[1]],
        "fp": [int(count) for count in columns[2]],
        "positives": positives,
        "negatives": negatives,
        "served": at,
        **areas(tp, fp, positives, negatives),
    }


def areas(tp: np.ndarray, fp: np.ndarray, positives: int, negatives: int) -> dict[str, float]:
    """ROC AUC by the trapezoidal rule and PR AUC as average precision, over every distinct score; NaN with a single class."""
    if not positives or not negatives:
        return {"roc": float("nan"), "pr": float("nan")}
    recall = np.concatenate([[0.0], tp / positives])
    precision = tp / np.maximum(tp + fp, 1)
    roc = np.trapezoid(recall, np.concatenate([[0.0], fp / negatives]))
    return {"roc": float(roc), "pr": float(np.sum(np.diff(recall) * precision))}


def confidence_table(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Number of answered rows and of correct ones among them, if rows below a confidence threshold get no answer.

    Args:
        truth: Index of the class, ``[rows]``.
        probabilities: ``[rows, classes]``.

    Returns:
        ``threshold``, ``answered`` and ``right``, thresholds descending to 0; ``rows``; and ``matrix``, the confusion
        matrix with one row per true class.
    """
    predicted, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1).astype(np.float64)
    order = np.argsort(-confidences, kind="stable")
    ordered, correct = confidences[order], (predicted == truth)[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    selected = last if len(last) <= MAX_ROWS else last[_evenly_spaced(len(last), MAX_ROWS)]
    matrix = np.zeros((probabilities.shape[1],) * 2, int)
    np.add.at(matrix, (truth.astype(int), predicted), 1)
    return {
        "threshold": [*ordered[selected].tolist(), 0.0],
        "answered": [*(selected + 1).tolist(), len(truth)],
        "right": [*np.cumsum(correct)[selected].tolist(), int(correct.sum())],
        "rows": len(truth),
        "matrix": matrix.tolist(),
    }


def rates_at(table: Mapping[str, Any], at: int) -> dict[str, float]:
    """Counts and rates at one row of a table; a division by zero gives NaN."""
    tp, fp = table["tp"][at], table["fp"][at]
    fn, tn = table["positives"] - tp, table["negatives"] - fp
    return {
        "threshold": table["threshold"][at],
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "tn": tn,
        "recall": _ratio(tp, table["positives"]),
        "fpr": _ratio(fp, table["negatives"]),
        "precision": _ratio(tp, tp + fp),
    }


def _ratio(part: float, total: float) -> float:
    return part / total if total else float("nan")


def load_scores(folder: Path) -> dict[str, np.ndarray]:
    """Labels ``[rows]`` and scores ``[rows, outputs]`` of every model on the eval split by name; empty if not stored."""
    path = folder / "scores.npz"
    if not path.is_file():
        return {}
    with np.load(path) as arrays:
        scores = {name: arrays[name] for name in arrays.files}
    return scores | {"truth": scores["truth"].reshape(-1)}


def to_json(table: Mapping[str, Any], prices: Mapping[str, float]) -> str:
    """A table and the costs of errors as JSON for the page's script, without non-finite values."""
    finite = {name: value for name, value in table.items() if not (isinstance(value, float) and not np.isfinite(value))}
    return json.dumps(finite | {"prices": dict(prices)})


def _select_thresholds(distinct: np.ndarray, positives: np.ndarray, served: float) -> np.ndarray:
    """Indices of the thresholds of the table except the served one: half at positives' scores, half at all scores."""
    if len(distinct) <= MAX_ROWS:
        selected = np.arange(len(distinct))
    else:
        sampled = positives[_evenly_spaced(len(positives), MAX_ROWS // 2)] if len(positives) else distinct[:0]
        by_positives = np.searchsorted(-distinct, -sampled)
        selected = np.unique(np.concatenate([by_positives, _evenly_spaced(len(distinct), MAX_ROWS // 2)]))
    return selected[distinct[selected] != served]


def _evenly_spaced(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))


def _threshold_above(descending: np.ndarray) -> float:
    """A threshold that flags no row."""
    return float(max(1.0, np.nextafter(descending[0], np.inf)) if len(descending) else 1.0)
