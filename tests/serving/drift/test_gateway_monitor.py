"""The monitor beside the gateway: what it says of a log, through restarts at any place, new versions and deaf sinks."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.drift_case import CUT, FIRST, ROWS, append, day, pushed, record, served, usual

from serving.drift.gateway_monitor import STATE, Live
from serving.drift.reference.reference_profile import Normal


@pytest.fixture(scope="module")
def known() -> Normal:
    return usual()


@pytest.fixture
def live(known: Normal, tmp_path: Path) -> Callable[..., Live]:
    """Makes a monitor of the log under ``tmp_path``, anew from its state."""
    pushed(tmp_path / "versions", known, 1, 2)
    return lambda *sinks: Live("tiny", tmp_path, tmp_path / "versions", CUT, sinks)


def test_clean_days_are_quiet_and_drift_alarms_on_its_first_day(live: Callable[..., Live], tmp_path: Path) -> None:
    heard = []
    served(tmp_path / "predictions", *range(7))
    served(tmp_path / "predictions", 7, 8, factor=1.3)
    found = live(heard.append).step()
    assert [one.window - FIRST for one in found] == list(range(8)) and all(one.rows == ROWS for one in found)
    assert not any(one.moved or one.faults for one in found[:7])
    assert found[7].moved[0] in ("amount", "amount_unexplained")
    assert [(one["what"], one["window"] - FIRST, one["incident"]["kind"]) for one in heard] == [("alert", 7, "drift")]
    assert found[0].estimate["value"] == pytest.approx(found[0].usual["value"], abs=0.1)


def test_restarted_at_any_row_it_says_the_same_once(live: Callable[..., Live], tmp_path: Path) -> None:
    served(tmp_path / "predictions", 0, 1)
    served(tmp_path / "predictions", 2, 3, 4, factor=1.3)
    once = [], live().step()
    (tmp_path / STATE).unlink()
    heard, found = [], []
    for most in range(173, 3000, 57):
        found += live(heard.append).step(most)  # each time from its state alone
    assert found == once[1] and len(heard) == 1


def test_a_growing_log_is_followed(live: Callable[..., Live], tmp_path: Path) -> None:
    monitor, folder = live(), tmp_path / "predictions"
    assert monitor.step() == []
    rows = day(0)
    append(folder, [record(rows, n) for n in range(300)])
    assert monitor.step() == []
    append(folder, [record(rows, n) for n in range(300, ROWS)])
    (folder / "00000001.open").rename(folder / "00000001.tfrecord")
    served(folder, 1, file=2)
    (found,) = monitor.step()
    assert found.window == FIRST and found.rows == ROWS


def test_a_new_version_is_held_against_its_own_normal_and_a_shared_window_is_not_judged(
    live: Callable[..., Live], tmp_path: Path
) -> None:
    folder = tmp_path / "predictions"
    served(folder, 0)
    rows = day(1)
    append(folder, [record(rows, n, 1 + (n > ROWS // 3)) for n in range(ROWS)])
    served(folder, 2, 3, version=2)
    found = live().step()
    assert [(one.version, bool(one.skipped)) for one in found] == [(1, False), (2, True), (2, False)]
    assert "Two versions" in found[1].skipped


def test_few_rows_and_unknown_versions_are_said_not_judged(live: Callable[..., Live], tmp_path: Path) -> None:
    rows = day(0)
    append(tmp_path / "predictions", [record(rows, n) for n in range(50)])
    served(tmp_path / "predictions", 1, version=9)
    served(tmp_path / "predictions", 2)
    found = live().step()
    assert "too few" in found[0].skipped and "No version" in found[1].skipped


def test_a_sink_that_fails_hears_it_later_and_no_other_twice(live: Callable[..., Live], tmp_path: Path) -> None:
    heard, deaf = [], [True, True]

    def hard(news: dict) -> None:
        if deaf:
            deaf.pop()
            raise OSError("nobody listens")
        heard.append(("hard", news["incident"]["id"]))

    served(tmp_path / "predictions", 0, 1, factor=1.4)
    sinks = (lambda news: heard.append(("good", news["incident"]["id"])), hard)
    live(*sinks).step()
    assert heard == [("good", 1)]
    live(*sinks).step()  # a restart between
    live(*sinks).step()
    assert heard == [("good", 1), ("hard", 1)]
    live(*sinks).step()
    assert len(heard) == 2


def test_a_damaged_state_is_read_again_from_the_log(live: Callable[..., Live], tmp_path: Path) -> None:
    served(tmp_path / "predictions", 0, 1)
    expected = live().step()
    (tmp_path / STATE).write_text("{")
    assert live().step() == expected
