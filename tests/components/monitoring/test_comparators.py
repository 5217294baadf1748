"""TFDV's comparators: the largest change of a share for categories, a divergence that grows with the shift for numbers."""

import numpy as np
import pandas as pd
import pytest
import tfx  # noqa: F401 (installs a stub that TFDV needs)

from components.monitoring import comparators


@pytest.fixture(scope="module")
def statistics():
    import tensorflow_data_validation as tfdv

    rng = np.random.default_rng(0)
    amount = np.exp(rng.normal(3, 0.7, 5000))

    def of(factor: float, online: int):
        channel = np.array(["online"] * online + ["till"] * (5000 - online))
        frame = pd.DataFrame({"amount": amount * factor, "channel": channel})
        return tfdv.generate_statistics_from_dataframe(frame, tfdv.StatsOptions(num_quantiles_histogram_buckets=50))

    return of


def by_feature(measures: list[dict]) -> dict[tuple[str, str], float]:
    return {(row["comparator"], row["feature"]): row["value"] for row in measures}


def test_categorical_measure_is_the_largest_change_of_a_share(statistics) -> None:
    measured = comparators.compare_statistics(
        statistics(1, 1000), statistics(1, 1500), statistics(1, 1250), ("amount", "channel")
    )
    values = by_feature(measured)
    assert values["skew", "channel"] == pytest.approx(0.1) and values["drift", "channel"] == pytest.approx(0.05)
    assert {row["measure"] for row in measured} == {"l_infty", "jensen_shannon_divergence"}
    assert values["skew", "amount"] < 0.001


def test_numeric_divergence_grows_with_the_shift(statistics) -> None:
    values = [
        by_feature(comparators.compare_statistics(statistics(1, 1000), statistics(factor, 1000), None, ("amount",)))[
            "skew", "amount"
        ]
        for factor in (1.0, 1.1, 1.3, 2.0)
    ]
    assert values == sorted(values) and values[0] < 0.001 < 0.1 < values[-1]


def test_first_window_has_only_skew(statistics) -> None:
    measured = comparators.compare_statistics(statistics(1, 9), statistics(1, 9), None, ("channel",))
    assert {row["comparator"] for row in measured} == {"skew"}
