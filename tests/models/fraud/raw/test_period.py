"""A row far from all others does not decide which period the purchases cover."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.fraud.raw.period import FAR, find_period

QUARTER = dict.fromkeys(range(1000, 1090), 100)


@pytest.mark.parametrize("day", [0, -700_000, 900, 995, 1094, 1200, 90_000])
def test_a_single_row_outside_does_not_move_the_period(day: int) -> None:
    assert find_period({**QUARTER, day: 1}) == (1000, 1089)


def test_rows_outside_on_both_sides_and_many_days_do_not_move_it() -> None:
    assert find_period({**QUARTER, 0: 40_000, 5: 3, 1300: 2, 5000: 1, 5001: 1}) == (1000, 1089)


@pytest.mark.parametrize("day", [998, 999, 1090, 1091])
def test_days_next_to_the_others_are_part_of_the_period(day: int) -> None:
    assert find_period({**QUARTER, day: 1}) == (min(day, 1000), max(day, 1089))


def test_days_with_as_many_rows_after_a_short_gap_are_part_of_the_period() -> None:
    assert find_period({**QUARTER, 1089 + FAR: 60}) == (1000, 1089 + FAR)


def test_a_long_gap_between_two_long_periods_is_no_outlier() -> None:
    for rows in (1, 10):  # also weeks of few purchases, such as those that a gateway served long after the training
        assert find_period({**QUARTER, **dict.fromkeys(range(2000, 2030), rows)}) == (1000, 2029)


def test_few_rows_on_many_far_days_are_outliers() -> None:
    assert find_period({**QUARTER, **dict.fromkeys(range(2000, 2020), 1)}) == (1000, 1089)


def test_sparse_rows_are_all_part_of_the_period() -> None:
    assert find_period(dict.fromkeys(range(0, 900, 9), 1)) == (0, 891)


@given(st.dictionaries(st.integers(-1000, 30_000), st.integers(1, 500), min_size=1, max_size=60))
def test_the_period_begins_and_ends_on_days_with_rows(rows: dict[int, int]) -> None:
    first, last = find_period(rows)
    assert first in rows and last in rows and first <= last
    assert find_period({day: count for day, count in rows.items() if first <= day <= last}) != ()
