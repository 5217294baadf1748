"""Bootstrap intervals against loops, scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, average_precision_score

from models.evaluation import intervals


def draw_scores(rows: int, share: float = 0.1, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores with many ties, ``[rows, 1]`` each."""
    generator = np.random.default_rng(rows)
    truth = (generator.random((rows, 1)) < share).astype(np.int64)
    return truth, np.round(generator.normal(size=(rows, 1)) + 1.5 * truth, decimals)


def pr_auc(truth: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    return {"pr_auc": float(average_precision_score(truth[:, 0], scores[:, 0]))}


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_average_precision_of_weighted_rows_is_scikit_learns(decimals: int) -> None:
    truth, scores = draw_scores(400, decimals=decimals)
    weights = np.random.default_rng(1).integers(0, 4, size=(5, 400)).astype(np.float32)
    measured = intervals.average_precision(truth, scores)(weights)
    expected = [
        average_precision_score(truth[:, 0], scores[:, 0], sample_weight=row_weights) for row_weights in weights
    ]
    assert measured == pytest.approx(expected, abs=1e-12)


def test_accuracy_of_weighted_rows_is_scikit_learns() -> None:
    generator = np.random.default_rng(2)
    truth, scores = generator.integers(0, 3, size=(200, 1)), generator.normal(size=(200, 3))
    weights = generator.integers(0, 4, size=(5, 200)).astype(np.float32)
    expected = [accuracy_score(truth[:, 0], scores.argmax(1), sample_weight=row_weights) for row_weights in weights]
    assert intervals.accuracy(truth, scores)(weights) == pytest.approx(expected, abs=1e-6)


def test_every_draw_keeps_the_number_of_rows_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = np.repeat([0, 1, 7], [50, 3, 20])
    monkeypatch.setattr(intervals, "CELLS", 10 * len(classes))
    blocks = list(intervals.draw_weights(classes, 25, seed=3))
    assert [len(block) for block in blocks] == [10, 10, 5]
    weights = np.concatenate(blocks)
    for label in (0, 1, 7):
        assert (weights[:, classes == label].sum(axis=1) == (classes == label).sum()).all()
    # With replacement, a row is left out with probability near 1/e.
    assert (weights[:, :50] == 0).mean() == pytest.approx((1 - 1 / 50) ** 50, abs=0.05)
    assert np.array_equal(weights, np.concatenate(list(intervals.draw_weights(classes, 25, seed=3))))
    assert not np.array_equal(weights, np.concatenate(list(intervals.draw_weights(classes, 25, seed=4))))


def test_vectorised_resamples_equal_a_loop() -> None:
    truth, scores = draw_scores(300)
    both = {"one": scores, "other": -scores}
    vectorised = intervals.resample_metric("pr_auc", pr_auc, truth, both, resamples=40)
    looped = intervals.resample_metric("area", lambda t, s: {"area": pr_auc(t, s)["pr_auc"]}, truth, both, resamples=40)
    for name in both:
        assert vectorised[name].shape == (40,)
        assert vectorised[name] == pytest.approx(looped[name], abs=1e-12)


def test_the_interval_is_scipys() -> None:
    """SciPy draws without strata; with one class there is one stratum, so the interval of accuracy is the same."""
    generator = np.random.default_rng(4)
    truth, right = np.zeros((600, 1), np.int64), generator.random(600) < 0.9
    scores = np.stack([right, ~right], axis=1).astype(float)
    interval = intervals.interval(
        intervals.resample_metric("accuracy", None, truth, {"m": scores}, resamples=2000)["m"]
    )
    oracle = stats.bootstrap(
        (right,), np.mean, n_resamples=2000, method="percentile", rng=generator
    ).confidence_interval
    assert (interval.low, interval.high) == pytest.approx((oracle.low, oracle.high), abs=0.004)


def test_the_interval_of_average_precision_is_near_scipys_over_rows() -> None:
    truth, scores = draw_scores(800, share=0.2)
    interval = intervals.interval(
        intervals.resample_metric("pr_auc", pr_auc, truth, {"m": scores}, resamples=1000)["m"]
    )
    oracle = stats.bootstrap(
        (truth[:, 0], scores[:, 0]),
        average_precision_score,
        n_resamples=400,
        method="percentile",
        paired=True,
        vectorized=False,
        rng=np.random.default_rng(5),
    ).confidence_interval
    assert (interval.low, interval.high) == pytest.approx((oracle.low, oracle.high), abs=0.03)
    assert interval.low < pr_auc(truth, scores)["pr_auc"] < interval.high


def test_models_share_their_resamples_so_equal_models_do_not_differ() -> None:
    truth, scores = draw_scores(500)
    both = intervals.resample_metric(
        "pr_auc", pr_auc, truth, {"one": scores, "twin": 2 * scores + 1, "noise": scores * 0}
    )
    assert intervals.interval(both["one"] - both["twin"]) == (0, 0)
    low, high = intervals.interval(both["one"] - both["noise"])
    assert 0 < low < high
