"""The rate of positives in independent sources, and the weighted test of their scores."""

import numpy as np
import pytest
from scipy import stats

from benchmarks import label_rate


def customers(rng: np.random.Generator, rate: float, shop: int) -> np.ndarray:
    """Sources of a window: customers with frauds anywhere, and a random number of victims of one copied card reader."""
    alone = rng.poisson(rate)
    victims = rng.integers(0, 80) if rng.random() < 0.5 else 0
    customer = np.concatenate([np.repeat(np.arange(alone), 4), 10_000 + np.arange(victims)])
    merchant = np.concatenate([rng.integers(0, 100_000, 4 * alone), np.full(victims, 200_000 + shop)])
    return label_rate.count_sources(customer, merchant)


def test_clustered_frauds_count_as_few_sources() -> None:
    assert label_rate.count_sources(np.array([1, 1, 1]), np.array([7, 8, 9])).tolist() == [
        1.0
    ]  # a card used up in three shops
    assert label_rate.count_sources(np.arange(5), np.full(5, 3)).sum() == pytest.approx(
        2
    )  # a shop whose cards were copied
    assert label_rate.count_sources(np.array([1, 2, 2]), np.array([5, 5, 6])).tolist() == [
        1.0,
        1.0,
    ]  # two meet by chance
    assert label_rate.count_sources(np.array([1, 2, 3, 4, 4]), np.array([5, 5, 5, 5, 6])).tolist() == [
        0.5,
        0.5,
        0.5,
        0.75,
    ]
    assert label_rate.count_sources(np.array([], int), np.array([], int)).sum() == 0


def test_unchanged_rate_raises_no_alarm_and_an_increase_by_half_is_detected() -> None:
    rng = np.random.default_rng(8)
    past = label_rate.PositiveRate.of_windows([70_000] * 48, [customers(rng, 120, shop) for shop in range(48)])
    assert past.rate == pytest.approx(121 / 70_000, rel=0.05) and past.clumping < 2

    def p(rate: float) -> float:
        return past.test(70_000, customers(rng, rate, 1))[0]

    clean = [p(120) for _ in range(300)]
    assert np.mean(np.array(clean) <= 0.01) <= 0.03
    assert np.mean(np.array([p(180) for _ in range(60)]) <= 0.01) > 0.9


def test_rate_of_too_few_windows_raises() -> None:
    with pytest.raises(ValueError, match="20 windows"):
        label_rate.PositiveRate.of_windows([100] * 19, [np.ones(3)] * 19)
    past = label_rate.PositiveRate.of_windows([100] * 20, [np.ones(3)] * 20, overlap=2)
    assert past.rows == 1000 and past.test(0, np.empty(0))[0] == 1.0


def test_lower_equals_the_mann_whitney_test() -> None:
    rng = np.random.default_rng(3)
    past, now = rng.normal(0, 1, 400).round(1), rng.normal(-0.3, 1, 50).round(1)
    ones = np.ones(50), np.ones(400)
    oracle = stats.mannwhitneyu(now, past, alternative="less", method="asymptotic", use_continuity=False).pvalue
    assert label_rate.mann_whitney_lower(now, past, *ones) == pytest.approx(oracle, rel=0.05)
    assert (
        label_rate.mann_whitney_lower(now + 1, past, *ones) > 0.99
        and label_rate.mann_whitney_lower(now[:0], past, *ones) == 1.0
    )
    # Values with weight zero have no influence.
    first = (np.arange(50) < 1).astype(float)
    alone = label_rate.mann_whitney_lower(now[:1], past, np.ones(1), ones[1])
    assert label_rate.mann_whitney_lower(now, past, first, ones[1]) == pytest.approx(alone)
