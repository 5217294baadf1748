"""Windows of the log: days, late rows, a single wrong clock, and the same windows after a restart."""

import numpy as np
import pytest

from serving.drift.profiles.windows import DAY, WindowAssigner, Windowing
from serving.gateway.log.log_files import LogPosition


def cut(cutter: WindowAssigner, times: list[int | None], first: int = 0) -> list[tuple[list[int | None], list[int]]]:
    """Window of each row, and the windows closed after it."""
    return [(cutter.take(LogPosition(1, first + n), time), cutter.over()) for n, time in enumerate(times)]


def test_day_closes_after_enough_rows_of_later_days() -> None:
    cutter = WindowAssigner(Windowing("t", behind=2))
    rows = cut(cutter, [10 * DAY, 11 * DAY, 10 * DAY + 5, 11 * DAY + 1, 10 * DAY + 6])
    assert [window for window, _ in rows] == [10, 11, 10, 11, None]
    assert [closed for _, closed in rows] == [[], [], [], [10], []]
    assert cutter.late == 1 and cutter.closed == 10


def test_a_single_wrong_clock_closes_no_day() -> None:
    cutter = WindowAssigner(Windowing("t", behind=3))
    rows = cut(cutter, [DAY, 9 * DAY, DAY + 1, 2 * DAY, DAY + 2])
    assert [window for window, _ in rows] == [1, 9, 1, 2, 1] and not any(closed for _, closed in rows)


def test_days_without_rows_are_skipped() -> None:
    cutter = WindowAssigner(Windowing("t", behind=1))
    assert [closed for _, closed in cut(cutter, [DAY, 5 * DAY, 9 * DAY])] == [[], [1], [5]]


def test_rows_without_a_time_are_divided_by_count() -> None:
    cutter = WindowAssigner(Windowing(rows=3))
    rows = cut(cutter, [None] * 7)
    assert [window for window, _ in rows] == [0, 0, 0, 1, 1, 1, 2]
    assert [closed for _, closed in rows] == [[], [], [0], [], [], [1], []]


@pytest.mark.parametrize("how", [Windowing("t", behind=5), Windowing(rows=40)])
def test_restart_from_the_open_windows_gives_the_same_windows(how: Windowing) -> None:
    rng = np.random.default_rng(0)
    # Days overlap at midnight, as clients do.
    times = np.sort(rng.integers(0, 12 * DAY, 600) + 1) + rng.integers(-600, 600, 600)
    times = [int(max(time, 0)) for time in times]
    whole = WindowAssigner(how)
    expected = [window for _, closed in cut(whole, times) for window in closed]
    for stop in (100, 333, 590):
        first = WindowAssigner(how)
        before = [window for _, closed in cut(first, times[:stop]) for window in closed]
        since = first.since(LogPosition(1, stop)).offset
        again = WindowAssigner(how, first.closed)
        assert before + [window for _, closed in cut(again, times[since:], since) for window in closed] == expected


def test_since_returns_the_end_if_no_window_is_open() -> None:
    cutter = WindowAssigner(Windowing(rows=2))
    cut(cutter, [None, None])
    assert cutter.since(LogPosition(3, 7)) == LogPosition(3, 7)
