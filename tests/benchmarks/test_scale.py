"""The arithmetic of the scale benchmark: fits of synthetic times, and their extrapolation."""

import pytest

from benchmarks import scale


def runs() -> list[dict]:
    """A stage with 2 s start and 10,000 rows/s, 20,000 with two processes at equal CPU time; and a constant stage."""
    return [
        {
            "rows": rows,
            "runner": runner,
            "seconds": {"Grows": 2 + rows / speed, "Stays": 5.0},
            "cpu": {"Grows": 1 + rows / 8_000, "Stays": 4.0},
        }
        for runner, speed in (("direct", 10_000), ("multiprocess", 20_000))
        for rows in (100_000, 1_000_000, 5_000_000)
    ]


def test_fit_returns_start_and_speed_and_0_for_a_constant_stage() -> None:
    fits = {(fit["runner"], fit["stage"]): fit for fit in scale.fit_stages(runs())}
    assert fits["direct", "Grows"]["rows_per_s"] == pytest.approx(10_000)
    assert fits["multiprocess", "Grows"]["rows_per_s"] == pytest.approx(20_000)
    assert fits["direct", "Grows"]["start_s"] == pytest.approx(2)
    assert fits["direct", "Grows"]["cpu_start_s"] == pytest.approx(1)
    assert fits["multiprocess", "Grows"]["rows_per_cpu_s"] == pytest.approx(8_000)
    assert fits["direct", "Stays"]["rows_per_s"] == fits["direct", "Stays"]["rows_per_cpu_s"] == 0


def test_cores_are_extrapolated_from_cpu_seconds() -> None:
    (direct, both) = scale.extrapolate(scale.fit_stages(runs()), rows=691_200_000)
    assert direct["core_hours"] == both["core_hours"] == pytest.approx(24)
    assert direct["cores"] == both["cores"] == 1
    assert scale.extrapolate(scale.fit_stages(runs()), rows=691_300_000)[0]["cores"] == 2


def test_single_size_has_no_slope() -> None:
    fits = scale.fit_stages(runs()[:1])
    assert all(fit["rows_per_s"] == 0 for fit in fits) and scale.extrapolate(fits) == []
