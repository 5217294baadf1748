"""Whether scores are probabilities."""

import numpy as np

BINS = 15


def expected_calibration_error(truth: np.ndarray, scores: np.ndarray, bins: int = BINS) -> float:
    """The mean gap between score and share of positives over bins of equal mass (Naeini et al. 2015).

    Bins of equal width would put nearly all rows of a rare class into one.

    Args:
        truth: 0 or 1, ``[rows]``.
        scores: Probabilities, ``[rows]``.
        bins: How many; each holds as many rows as the next, or one fewer.

    Returns:
        Sum over bins of share of rows times |mean score - share of positives|; 0 for no rows.
    """
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(abs(scores[part].mean() - truth[part].mean()) * len(part) for part in parts) / max(len(order), 1))
