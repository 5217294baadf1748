"""Evidence on the evaluation: areas compared with scikit-learn, and thresholds."""

import json
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from support.proofs import EvidenceCache

from models.fraud import model as fraud
from tour.evidence import thresholds
from tour.evidence.context import Context

pytestmark = pytest.mark.system


def count_errors(truth: np.ndarray, scores: np.ndarray) -> list[thresholds.Counts]:
    counts = []
    for threshold in np.linspace(0, 1, 2001):
        stopped = scores >= threshold
        counts.append(
            thresholds.Counts(
                threshold,
                (stopped & (truth == 1)).sum(),
                (stopped & (truth == 0)).sum(),
                (~stopped & (truth == 0)).sum(),
                (~stopped & (truth == 1)).sum(),
            )
        )
    return counts


def test_the_area_under_the_roc_is_scikit_learns() -> None:
    generator = np.random.default_rng(4)
    truth = (generator.random(4000) < 0.1).astype(int)
    scores = 1 / (1 + np.exp(-(generator.normal(size=4000) + 1.5 * truth)))
    counts = count_errors(truth, scores)
    assert math.isclose(
        thresholds.area([thresholds.rates(point)[0] for point in counts]), roc_auc_score(truth, scores), abs_tol=1e-3
    )
    (fpr, tpr), (recall, precision) = thresholds.rates(thresholds.Counts(0.5, tp=8, fp=2, tn=88, fn=2))
    assert (fpr, tpr, recall, precision) == (2 / 90, 0.8, 0.8, 0.8)


def test_the_cheapest_threshold_follows_from_the_prices_if_scores_are_calibrated() -> None:
    generator = np.random.default_rng(5)
    scores = generator.beta(0.4, 2.0, 60_000)
    counts = count_errors((generator.random(60_000) < scores).astype(int), scores)
    for miss, review in ((120.0, 12.0), (10.0, 10.0)):
        logits = np.log(scores / (1 - scores))[:, None]
        prices = {"miss_cost": miss, "review_cost": review}
        served = fraud.operating_point(prices, (generator.random((60_000, 1)) < scores[:, None]).astype(int), logits)[
            "threshold"
        ]
        best = min(thresholds.cost(point, miss, review) for point in counts)
        assert math.isclose(served, review / (review + miss))
        assert thresholds.cost(thresholds.nearest(counts, served), miss, review) < 1.02 * best
        assert thresholds.cost(thresholds.nearest(counts, 0.9), miss, review) > 1.1 * best


def test_roc_area_of_a_run_matches_the_evaluators_metric(proofs: EvidenceCache) -> None:
    context = Context.of(proofs.home, "fraud")
    areas = next(result for result in proofs.prove("A28", "fraud") if result.title == "Areas under the curves")
    metrics = json.loads(context.run.facts["metrics"])
    assert math.isclose(areas.rows[0][1], metrics["roc_auc"], abs_tol=0.02)
    assert math.isclose(areas.rows[0][2], metrics["pr_auc"], abs_tol=0.05)
