"""Threshold and confidence tables of an evaluation, against scikit-learn."""

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve, roc_auc_score
from support.shown_home import (
    THRESHOLD,
    truth_and_scores,
)

from tour.artifacts import curves


def test_threshold_table_equals_scikit_learn() -> None:
    truth, scores = truth_and_scores()
    table = curves.threshold_table(truth, scores, THRESHOLD)
    assert (
        table["threshold"] == sorted(table["threshold"], reverse=True)
        and len(table["threshold"]) <= curves.MAX_ROWS + 2
    )
    for at, threshold in enumerate(table["threshold"]):
        (tn, fp), (fn, tp) = confusion_matrix(truth, scores >= np.float32(threshold), labels=[0, 1])
        rates = curves.rates_at(table, at)
        assert (rates["tn"], rates["fp"], rates["fn"], rates["tp"]) == (tn, fp, fn, tp), threshold
    assert table["roc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert table["pr"] == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    precision, recall, thresholds = precision_recall_curve(truth, scores)
    served = curves.rates_at(table, table["served"])
    at = int(np.searchsorted(thresholds, np.float32(THRESHOLD)))
    assert (served["precision"], served["recall"]) == (precision[at], recall[at])


@pytest.mark.parametrize("truth", [[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
def test_split_with_one_class_or_two_rows_has_a_threshold_table(truth: list[float]) -> None:
    table = curves.threshold_table(np.array(truth), np.array([0.7, 0.2], np.float32), 0.5)
    assert table["tp"][0] == table["fp"][0] == 0
    assert (table["tp"][-1], table["fp"][-1]) == (table["positives"], table["negatives"])
    assert json.loads(curves.to_json(table, {"miss": 1.0}))["prices"] == {"miss": 1.0}


def test_threshold_table_of_many_scores_is_short_and_resolves_the_rare_class() -> None:
    draw = np.random.default_rng(2)
    truth, scores = (draw.random(20_000) < 0.01).astype(float), draw.random(20_000).astype(np.float32)
    table = curves.threshold_table(truth, scores, 0.9)
    assert len(table["threshold"]) <= curves.MAX_ROWS + 2
    assert np.diff(table["tp"]).max() <= np.ceil(2 * truth.sum() / (curves.MAX_ROWS // 2))


def test_confidence_table_counts_answers_and_correct_answers() -> None:
    draw = np.random.default_rng(3)
    probabilities = draw.dirichlet(np.ones(4), 500)
    truth = draw.integers(0, 4, 500)
    table = curves.confidence_table(truth, probabilities)
    assert table["matrix"] == confusion_matrix(truth, probabilities.argmax(axis=1)).tolist()
    for threshold, answered, right in zip(table["threshold"], table["answered"], table["right"], strict=True):
        selected = probabilities.max(axis=1) >= threshold
        assert (answered, right) == (selected.sum(), (probabilities.argmax(axis=1) == truth)[selected].sum())
