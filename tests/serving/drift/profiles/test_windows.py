"""How the log is cut: whole days, rows that come too late, one wrong clock, and the same again from the middle."""

import numpy as np
import pytest

from serving.drift.profiles.windows import DAY, Cut, Cutter
from serving.gateway.log.log_files import Place


def cut(cutter: Cutter, times: list[int | None], first: int = 0) -> list[tuple[list[int | None], list[int]]]:
    """Window of each row, and those that are over after it."""
    return [(cutter.take(Place(1, first + n), time), cutter.over()) for n, time in enumerate(times)]


def test_a_day_is_over_when_enough_rows_of_later_days_are_there() -> None:
    cutter = Cutter(Cut("t", behind=2))
    found = cut(cutter, [10 * DAY, 11 * DAY, 10 * DAY + 5, 11 * DAY + 1, 10 * DAY + 6])
    assert [window for window, _ in found] == [10, 11, 10, 11, None]
    assert [over for _, over in found] == [[], [], [], [10], []]
    assert cutter.late == 1 and cutter.closed == 10


def test_one_wrong_clock_ends_no_day() -> None:
    cutter = Cutter(Cut("t", behind=3))
    found = cut(cutter, [DAY, 9 * DAY, DAY + 1, 2 * DAY, DAY + 2])
    assert [window for window, _ in found] == [1, 9, 1, 2, 1] and not any(over for _, over in found)


def test_days_without_a_row_are_no_windows() -> None:
    cutter = Cutter(Cut("t", behind=1))
    assert [over for _, over in cut(cutter, [DAY, 5 * DAY, 9 * DAY])] == [[], [1], [5]]


def test_rows_without_a_time_are_counted_off() -> None:
    cutter = Cutter(Cut(rows=3))
    found = cut(cutter, [None] * 7)
    assert [window for window, _ in found] == [0, 0, 0, 1, 1, 1, 2]
    assert [over for _, over in found] == [[], [], [0], [], [], [1], []]


@pytest.mark.parametrize("how", [Cut("t", behind=5), Cut(rows=40)])
def test_reading_again_from_where_open_windows_begin_cuts_the_same(how: Cut) -> None:
    rng = np.random.default_rng(0)
    # Days overlap at midnight, as clients do.
    times = np.sort(rng.integers(0, 12 * DAY, 600) + 1) + rng.integers(-600, 600, 600)
    times = [int(max(one, 0)) for one in times]
    whole = Cutter(how)
    expected = [one for _, over in cut(whole, times) for one in over]
    for stop in (100, 333, 590):
        first = Cutter(how)
        begun = [one for _, over in cut(first, times[:stop]) for one in over]
        since = first.since(Place(1, stop)).offset
        again = Cutter(how, first.closed)
        assert begun + [one for _, over in cut(again, times[since:], since) for one in over] == expected


def test_where_no_window_is_open_reading_goes_on_at_the_end() -> None:
    cutter = Cutter(Cut(rows=2))
    cut(cutter, [None, None])
    assert cutter.since(Place(3, 7)) == Place(3, 7)
