"""Distances and tests against SciPy, scikit-learn or their definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import spatial, stats

from serving.drift.alarms import distribution_distances

COUNTS = st.lists(st.integers(0, 500), min_size=3, max_size=12)
NOW, THEN = np.array([30, 50, 20, 0]), np.array([40, 40, 15, 5])


def test_divergences_equal_scipy_on_the_same_shares() -> None:
    p, q = (NOW + 0.5) / (NOW + 0.5).sum(), (THEN + 0.5) / (THEN + 0.5).sum()
    assert distribution_distances.kullback_leibler(NOW, THEN) == pytest.approx(stats.entropy(p, q))
    assert distribution_distances.jensen_shannon(NOW, THEN) == pytest.approx(spatial.distance.jensenshannon(p, q) ** 2)
    assert distribution_distances.population_stability(NOW, THEN) == pytest.approx(
        stats.entropy(p, q) + stats.entropy(q, p)
    )
    assert distribution_distances.linf(NOW, THEN) == pytest.approx(0.1)


def test_kolmogorov_smirnov_equals_scipy_on_the_rows() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 9, 200), rng.integers(1, 10, 300)
    counts = [np.bincount(rows, minlength=10) for rows in (first, second)]
    assert distribution_distances.kolmogorov_smirnov(*counts) == pytest.approx(stats.ks_2samp(first, second).statistic)


def test_exact_p_value_is_a_sum_of_hypergeometric_terms() -> None:
    table = stats.hypergeom.pmf(np.arange(16), 120, 15, 20)
    assert distribution_distances.fisher_exact(6, 20, 9, 100) == pytest.approx(
        table[table <= table[6] * (1 + 1e-9)].sum()
    )


@given(COUNTS, COUNTS)
def test_distances_are_zero_for_equal_counts_and_within_their_bounds(first, second) -> None:
    size = min(len(first), len(second))
    p, q = np.array(first[:size]) + 1, np.array(second[:size]) + 1
    for distance in (
        distribution_distances.kullback_leibler,
        distribution_distances.jensen_shannon,
        distribution_distances.population_stability,
    ):
        assert distance(p, p) == pytest.approx(0, abs=1e-12) and distance(p, q) >= -1e-12
    assert distribution_distances.jensen_shannon(p, q) == pytest.approx(distribution_distances.jensen_shannon(q, p))
    assert distribution_distances.jensen_shannon(p, q) <= np.log(2)
    assert distribution_distances.linf(p, q) <= 1 and distribution_distances.kolmogorov_smirnov(p, q) <= 1


def test_corrections_equal_scipy_and_the_definition_of_holm() -> None:
    p = np.random.default_rng(3).random(17) ** 3
    np.testing.assert_allclose(distribution_distances.benjamini_hochberg(p), stats.false_discovery_control(p))
    order = np.argsort(p)
    expected = [min(1, max((17 - j) * p[order[j]] for j in range(i + 1))) for i in range(17)]
    np.testing.assert_allclose(distribution_distances.holm(p)[order], expected)


def test_weights_divide_alpha_among_tests() -> None:
    p, weights = np.array([0.006, 0.006, 0.5]), np.array([8.0, 1.0, 1.0])
    adjusted = distribution_distances.holm(p, weights)
    assert adjusted[0] == pytest.approx(0.006 * 10 / 8) and adjusted[1] == pytest.approx(0.006 * 2 / 1)
    np.testing.assert_allclose(distribution_distances.holm(p, weights * 7), adjusted)


def test_empty_samples_raise() -> None:
    with pytest.raises(ValueError, match="Shares of zero rows"):
        distribution_distances.linf(np.zeros(3), THEN[:3])
