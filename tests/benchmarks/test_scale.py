"""The benchmark's arithmetic: slopes of made-up times, and what they would take on paper."""

import pytest

from benchmarks import scale


def runs() -> list[dict]:
    """A stage of 2 s and 10,000 rows/s, twice that with all cores, for the same work; and one that does not grow."""
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


def test_a_stage_that_grows_has_its_start_and_its_speed_and_one_that_stays_has_none() -> None:
    found = {(one["runner"], one["stage"]): one for one in scale.slopes(runs())}
    assert found["direct", "Grows"]["rows_per_s"] == pytest.approx(10_000)
    assert found["multiprocess", "Grows"]["rows_per_s"] == pytest.approx(20_000)
    assert found["direct", "Grows"]["start_s"] == pytest.approx(2)
    assert found["direct", "Grows"]["cpu_start_s"] == pytest.approx(1)
    assert found["multiprocess", "Grows"]["rows_per_cpu_s"] == pytest.approx(8_000)
    assert found["direct", "Stays"]["rows_per_s"] == found["direct", "Stays"]["rows_per_cpu_s"] == 0


def test_on_paper_the_slope_of_processor_seconds_is_carried_on() -> None:
    (direct, both) = scale.paper(scale.slopes(runs()), rows=691_200_000)
    assert direct["core_hours"] == both["core_hours"] == pytest.approx(24)
    assert direct["cores"] == both["cores"] == 1
    assert scale.paper(scale.slopes(runs()), rows=691_300_000)[0]["cores"] == 2


def test_one_size_has_no_slope() -> None:
    found = scale.slopes(runs()[:1])
    assert all(one["rows_per_s"] == 0 for one in found) and scale.paper(found) == []
