"""Metrics without labels, metrics with late labels, explained columns and rates of positives, against simulated truths."""

import numpy as np
import polars as pl
import pytest
from sklearn import metrics

from serving.drift.reference import metric_estimate
from serving.drift.reference.explained_columns import ExplainedColumn
from serving.drift.reference.metric_estimate import MetricEstimator


def drawn(seed: int, n: int = 20_000, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that overstate the odds, and labels drawn from the true probabilities; ``shift`` moves the inputs only."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-3.5 + shift, 1.8, n)
    chance = 1 / (1 + np.exp(-logit))
    return 1 / (1 + np.exp(-logit - 1.0)), rng.random(n) < chance


def test_metrics_equal_scikit_learn_with_ties() -> None:
    scores, truth = drawn(1, 3000)
    scores = scores.round(2)
    assert metric_estimate.pr_auc(scores, truth) == pytest.approx(metrics.average_precision_score(truth, scores))
    assert metric_estimate.roc_auc(scores, truth) == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert np.isnan(metric_estimate.pr_auc(scores, truth & False)) and np.isnan(
        metric_estimate.roc_auc(scores, truth | True)
    )


@pytest.mark.parametrize("metric", ["pr_auc", "roc_auc"])
@pytest.mark.parametrize("shift", [-0.5, 0.0, 0.7])
def test_estimate_under_covariate_shift_is_within_its_error_of_the_truth(metric: str, shift: float) -> None:
    fitted = MetricEstimator.fit(metric, *drawn(1))
    scores, truth = drawn(2, shift=shift)
    estimate, measured = fitted.estimate(scores), metric_estimate.METRICS[metric](scores, truth)
    assert abs(estimate.value - measured) < 3 * estimate.error and estimate.error < 0.03


def test_standardized_errors_of_many_windows_have_unit_deviation() -> None:
    fitted, standardized = MetricEstimator.fit("roc_auc", *drawn(1, 40_000)), []
    for seed in range(3, 33):
        scores, truth = drawn(seed, 4000)
        estimate = fitted.estimate(scores)
        standardized.append((estimate.value - metric_estimate.roc_auc(scores, truth)) / estimate.error)
    assert 0.5 < np.std(standardized) < 1.6 and abs(np.mean(standardized)) < 0.8


def test_scores_are_calibrated_and_accuracy_takes_the_confidence() -> None:
    scores, truth = drawn(4, 50_000)
    fitted = MetricEstimator.fit("pr_auc", scores, truth)
    assert fitted.probability(scores).mean() == pytest.approx(truth.mean(), rel=0.02)
    assert scores.mean() > 1.3 * truth.mean()
    rng = np.random.default_rng(5)
    confidence = rng.uniform(0.5, 1, 8000)
    right = rng.random(8000) < confidence - 0.1
    fitted = MetricEstimator.fit("accuracy", confidence, right)
    low = confidence[confidence < 0.8]
    assert fitted.estimate(low).value == pytest.approx(low.mean() - 0.1, abs=0.02)


def test_concept_drift_is_measured_with_labels_and_missed_by_the_estimate() -> None:
    fitted = MetricEstimator.fit("roc_auc", *drawn(1))
    scores, truth = drawn(6)
    truth = np.random.default_rng(7).permutation(truth)
    measured = metric_estimate.measure_metric("roc_auc", scores, truth)
    assert fitted.estimate(scores).value > 0.8 and abs(measured.value - 0.5) < 4 * measured.error


def test_calibration_with_a_single_class_raises() -> None:
    with pytest.raises(ValueError, match="both classes"):
        MetricEstimator.fit("pr_auc", np.linspace(0, 1, 50), np.zeros(50))


def test_residuals_equal_those_of_a_least_squares_regression() -> None:
    rng = np.random.default_rng(9)
    habit, kind = rng.lognormal(3, 1, 5000), rng.choice(["a", "b"], 5000)
    amount = np.exp(0.8 * np.log1p(habit) + (kind == "b") + rng.normal(0, 0.2, 5000))
    rows = pl.DataFrame({"amount": amount, "usual": habit, "kind": kind})
    fitted = ExplainedColumn.fit(rows, "amount", ["usual", "kind"])
    design = np.column_stack([np.ones(5000), np.log1p(habit), kind == "b"])
    weights = np.linalg.lstsq(design, np.log(amount), rcond=None)[0]
    residual = np.log(amount) - design @ weights
    usual_size = design @ np.linalg.lstsq(design, np.abs(residual), rcond=None)[0]
    np.testing.assert_allclose(fitted.left(rows), residual / usual_size, atol=1e-3)
    odd = pl.DataFrame({"amount": [0.0, None, 5.0], "usual": [1.0, 2.0, None], "kind": ["a", None, "z"]})
    assert np.isnan(fitted.left(odd)[:2]).all() and np.isfinite(fitted.left(odd)[2])
    with pytest.raises(ValueError, match="no positive value"):
        ExplainedColumn.fit(rows.with_columns(amount=-pl.col("amount")), "amount", ["usual"])


def test_random_effects_equal_best_linear_unbiased_predictions() -> None:
    rng = np.random.default_rng(3)
    shop = rng.integers(0, 300, 6000) ** 2 // 300  # some with many rows, some with few
    effect = rng.normal(0, 0.5, 300)
    logs = 2.0 + effect[shop] + rng.normal(0, 0.8, 6000)
    rows = pl.DataFrame({"amount": np.exp(logs), "shop": [f"s{number}" for number in shop], "none": np.zeros(6000)})
    fitted = ExplainedColumn.fit(rows, "amount", ["none", "shop"])
    drawn, totals = fitted.effects["shop"].drawn, fitted.effects["shop"].known
    assert drawn == pytest.approx(0.8**2 / 0.5**2, rel=0.2)
    n, mean = np.bincount(shop, minlength=300), np.bincount(shop, logs - logs.mean(), minlength=300)
    for number in np.flatnonzero(n > 1):
        count, total = totals[f"s{number}"]
        assert count == n[number] and total / (count + drawn) == pytest.approx(
            mean[number] / (n[number] + drawn), abs=1e-3
        )
    rmse = np.sqrt(
        np.mean([(total / (count + drawn) - effect[int(name[1:])]) ** 2 for name, (count, total) in totals.items()])
    )
    assert rmse < 0.6 * effect.std()


def test_residuals_of_fitted_rows_vary_like_those_of_new_rows() -> None:
    rng = np.random.default_rng(4)
    shop, effect = rng.integers(0, 1000, 8000), rng.normal(0, 0.3, 1000)

    def drawn() -> pl.DataFrame:
        amount = np.exp(effect[shop] + rng.normal(0, 0.6, 8000))
        return pl.DataFrame({"amount": amount, "shop": shop.astype(str), "none": np.zeros(8000)})

    rows, new = drawn(), drawn()
    fitted = ExplainedColumn.fit(rows, "amount", ["none", "shop"])
    own, apart, later = (
        values.std() for values in (fitted.left(rows), fitted.left(rows, fitted=True), fitted.left(new))
    )
    assert apart == pytest.approx(later, rel=0.025) and own < 0.97 * later


def test_equal_values_and_unknown_values_have_no_effect() -> None:
    rng = np.random.default_rng(5)
    rows = pl.DataFrame({"amount": np.exp(rng.normal(0, 1, 5000)), "shop": rng.integers(0, 400, 5000).astype(str)})
    plain = ExplainedColumn.fit(rows, "amount", []).left(rows)
    assert np.abs(ExplainedColumn.fit(rows, "amount", ["shop"]).left(rows) - plain).max() < 0.5
    differing = rows.with_columns(amount=pl.col("amount") * (1 + pl.col("shop").cast(pl.Int64) % 5))
    fitted = ExplainedColumn.fit(differing, "amount", ["shop"])
    odd = differing.with_columns(shop=pl.Series(["never seen", None] * 2500))
    assert np.isfinite(fitted.left(odd)).all()
    assert fitted.left(odd).mean() == pytest.approx(fitted.left(differing).mean(), abs=0.05)
