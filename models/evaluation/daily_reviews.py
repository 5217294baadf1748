"""What a team finds that checks a fixed number of cards or purchases a day, the ones with the highest scores."""

from dataclasses import dataclass

import numpy as np

SECONDS_A_DAY = 86_400


@dataclass(frozen=True)
class ReviewedRows:
    """The rows of a split that could be reviewed.

    Attributes:
        fraud: Whether a row is positive, bool ``[rows]``.
        cards: The card of each row, ``[rows]``.
        amounts: The value at stake in each row, ``[rows]``.
        days: The day of each row, ``[rows]``.
    """

    fraud: np.ndarray
    cards: np.ndarray
    amounts: np.ndarray
    days: np.ndarray

    @classmethod
    def of(cls, truth: np.ndarray, cards: np.ndarray, amounts: np.ndarray, times: np.ndarray) -> "ReviewedRows":
        """Return the rows from labels ``[rows, 1]`` and from raw features as text ``[rows]``, the times in seconds."""
        days = times.astype(np.float64).astype(np.int64) // SECONDS_A_DAY
        return cls(truth[:, 0] > 0, cards.astype(str), amounts.astype(np.float64), days)


def measure_reviews(rows: ReviewedRows, scores: np.ndarray, capacity: int) -> dict[str, float]:
    """Return the metrics of scores ``[rows]`` for a capacity of reviews a day.

    ``card_precision`` is Card Precision@k (Dal Pozzolo et al. 2018, "Credit card fraud detection: a realistic modeling"):
    the share of compromised cards among the k cards of a day with the highest scores, as a mean over days. A compromised
    card that was found is blocked and left out of later days. ``recall`` and ``value_recall`` are the shares of the frauds,
    and of their amounts, among the k purchases of each day with the highest scores.
    """
    recall, value_recall = _measure_recall(rows, scores, capacity)
    return {
        "card_precision": _measure_card_precision(rows, scores, capacity),
        "recall": recall,
        "value_recall": value_recall,
    }


def _measure_card_precision(rows: ReviewedRows, scores: np.ndarray, capacity: int) -> float:
    _, cards = np.unique(rows.cards, return_inverse=True)
    blocked = np.zeros(cards.max(initial=0) + 1, bool)
    precisions = []
    for day in np.unique(rows.days):
        at = np.flatnonzero((rows.days == day) & ~blocked[cards])
        highest, is_compromised = np.full(len(blocked), -np.inf), np.zeros(len(blocked), bool)
        np.maximum.at(highest, cards[at], scores[at])
        np.logical_or.at(is_compromised, cards[at], rows.fraud[at])
        checked = np.argsort(-highest, kind="stable")[:capacity]
        detected = checked[is_compromised[checked]]
        precisions.append(len(detected) / capacity)
        blocked[detected] = True
    return float(np.mean(precisions))


def _measure_recall(rows: ReviewedRows, scores: np.ndarray, capacity: int) -> tuple[float, float]:
    """Return the shares of the frauds and of their amounts; NaN without frauds."""
    order = np.lexsort((-scores, rows.days))
    _, starts, counts = np.unique(rows.days[order], return_index=True, return_counts=True)
    position = np.arange(len(order)) - np.repeat(starts, counts)  # of a purchase in its day
    is_checked = np.zeros(len(order), bool)
    is_checked[order[position < capacity]] = True
    amounts, is_detected = rows.amounts[rows.fraud], is_checked[rows.fraud]
    if not len(amounts):
        return float("nan"), float("nan")
    return float(np.mean(is_detected)), float(amounts[is_detected].sum() / amounts.sum())
