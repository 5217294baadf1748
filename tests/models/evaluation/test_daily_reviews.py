"""Metrics of a fixed capacity of reviews, against pandas and against rows counted by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from models.evaluation.daily_reviews import ReviewedRows, measure_reviews

DAY = 86_400


def build_rows(frame: pd.DataFrame) -> ReviewedRows:
    columns = (frame[name].astype(str).to_numpy(object) for name in ("card", "amount", "time"))
    return ReviewedRows.of(frame[["fraud"]].to_numpy(), *columns)


def rank_with_pandas(frame: pd.DataFrame, capacity: int) -> dict[str, float]:
    """The same metrics, day by day."""
    blocked: set[str] = set()
    precisions, checked = [], []
    for _, day in frame.assign(day=frame["time"] // DAY).groupby("day"):
        open_cards = day[~day["card"].isin(blocked)].groupby("card")[["score", "fraud"]].max()
        top = open_cards.sort_values("score", ascending=False).head(capacity)
        precisions.append(top["fraud"].sum() / capacity)
        blocked |= set(top.index[top["fraud"] == 1])
        checked.append(day.sort_values("score", ascending=False).head(capacity))
    detected, frauds = pd.concat(checked).query("fraud == 1"), frame.query("fraud == 1")
    value_recall = detected["amount"].sum() / frauds["amount"].sum()
    return {
        "card_precision": float(np.mean(precisions)),
        "recall": len(detected) / len(frauds),
        "value_recall": value_recall,
    }


@pytest.mark.parametrize("capacity", [1, 5, 30, 1000])
def test_metrics_equal_those_that_pandas_finds_day_by_day(capacity: int) -> None:
    random = np.random.default_rng(capacity)
    rows = 2000
    frame = pd.DataFrame(
        {
            "card": random.integers(0, 300, rows).astype(str),
            "amount": random.gamma(2.0, 50.0, rows),
            "time": random.integers(20_000 * DAY, 20_007 * DAY, rows),
            "fraud": random.random(rows) < 0.05,
            "score": random.permutation(rows) / rows,
        }
    ).astype({"fraud": int})
    frame.loc[frame["fraud"] == 1, "score"] += 0.2
    measured = measure_reviews(build_rows(frame), frame["score"].to_numpy(), capacity)
    assert measured == pytest.approx(rank_with_pandas(frame, capacity), rel=1e-12)


def test_card_that_was_found_is_not_checked_again() -> None:
    frame = pd.DataFrame(
        {
            "card": ["a", "b", "a", "c"],
            "amount": [10.0, 1.0, 30.0, 60.0],
            "time": [0, 1, DAY, DAY + 1],
            "fraud": [1, 0, 1, 1],
            "score": [0.9, 0.1, 0.8, 0.7],
        }
    )
    measured = measure_reviews(build_rows(frame), frame["score"].to_numpy(), 1)
    # On the second day card a is blocked, so that c is checked; of the purchases a's is the one of the highest score.
    assert measured == {"card_precision": 1.0, "recall": 2 / 3, "value_recall": 0.4}


def test_recall_without_frauds_is_undefined() -> None:
    frame = pd.DataFrame({"card": ["a"], "amount": [1.0], "time": [0], "fraud": [0]})
    measured = measure_reviews(build_rows(frame), np.array([0.5]), 10)
    assert measured["card_precision"] == 0 and math.isnan(measured["recall"]) and math.isnan(measured["value_recall"])
