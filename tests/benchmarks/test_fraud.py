"""The fraud benchmark's intervals: average precision as in scikit-learn, customers drawn with all their rows."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from benchmarks import fraud


def test_average_precision_of_a_resample_equals_scikit_learn_on_repeated_rows() -> None:
    rng = np.random.default_rng(1)
    truth, scores = (rng.random(60) < 0.3).astype(float), rng.random(60)
    counts = rng.integers(0, 4, (5, 60))
    areas = fraud.average_precision(truth[:, None], scores[:, None])(counts)
    for row in range(5):
        rows = np.repeat(np.arange(60), counts[row])
        assert areas[row] == pytest.approx(average_precision_score(truth[rows], scores[rows]), rel=1e-4)


def test_customers_are_drawn_with_all_their_rows() -> None:
    customers = np.array(["a", "b", "a", "c", "b", "b"])
    draws = np.concatenate(list(fraud._resample_customers(customers, seed=1)))
    assert draws.shape == (fraud.DRAWS, 6)
    assert (draws[:, 0] == draws[:, 2]).all() and (draws[:, 1] == draws[:, 4]).all()
    assert (draws[:, [0, 1, 3]].sum(axis=1) == 3).all() and draws.mean() == pytest.approx(1, abs=0.05)
