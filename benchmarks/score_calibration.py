"""Calibration of scores: how close they are to probabilities."""

import numpy as np

BINS = 15


def expected_calibration_error(truth: np.ndarray, scores: np.ndarray, bins: int = BINS) -> float:
    """Return the mean gap between score and share of positives over bins of equal mass (Naeini et al. 2015).

    With bins of equal width, nearly all rows would fall into one bin if positives are rare.

    Args:
        truth: 0 or 1, ``[rows]``.
        scores: Probabilities, ``[rows]``.
        bins: Number of bins; their numbers of rows differ by at most one.

    Returns:
        Sum over bins of share of rows times |mean score - share of positives|; 0 for no rows.
    """
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(abs(scores[part].mean() - truth[part].mean()) * len(part) for part in parts) / max(len(order), 1))
