"""The gateway monitor: results of a log, restarts at any row, new versions and failing sinks."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.drift_case import (
    CUT,
    FIRST,
    ROWS,
    append_records,
    encode_record,
    generate_day,
    log_days,
    save_profiles,
)

from serving.drift.gateway_monitor import STATE_FILE, GatewayMonitor
from serving.drift.reference.reference_profile import ReferenceProfile


@pytest.fixture
def new_monitor(drift_profile: ReferenceProfile, tmp_path: Path) -> Callable[..., GatewayMonitor]:
    """Returns a function that creates a monitor of the log under ``tmp_path`` from its state file."""
    save_profiles(tmp_path / "versions", drift_profile, 1, 2)
    return lambda *sinks: GatewayMonitor("tiny", tmp_path, tmp_path / "versions", CUT, sinks)


def test_undrifted_days_raise_no_alarm_and_drift_does_on_its_first_day(
    new_monitor: Callable[..., GatewayMonitor], tmp_path: Path
) -> None:
    alerts = []
    log_days(tmp_path / "predictions", *range(7))
    log_days(tmp_path / "predictions", 7, 8, factor=1.3)
    results = new_monitor(alerts.append).step()
    assert [result.window - FIRST for result in results] == list(range(8))
    assert all(result.rows == ROWS for result in results)
    assert not any(result.moved or result.faults for result in results[:7])
    assert results[7].moved[0] in ("amount", "amount_unexplained")
    assert [(alert["what"], alert["window"] - FIRST, alert["incident"]["kind"]) for alert in alerts] == [
        ("alert", 7, "drift")
    ]
    assert results[0].estimate["value"] == pytest.approx(results[0].usual["value"], abs=0.1)


def test_restart_at_any_row_gives_the_same_results_and_one_alert(
    new_monitor: Callable[..., GatewayMonitor], tmp_path: Path
) -> None:
    log_days(tmp_path / "predictions", 0, 1)
    log_days(tmp_path / "predictions", 2, 3, 4, factor=1.3)
    expected = new_monitor().step()
    (tmp_path / STATE_FILE).unlink()
    alerts, results = [], []
    for most in range(173, 3000, 57):
        results += new_monitor(alerts.append).step(most)  # each monitor starts from the state file
    assert results == expected and len(alerts) == 1


def test_growing_log_is_followed(new_monitor: Callable[..., GatewayMonitor], tmp_path: Path) -> None:
    monitor, folder = new_monitor(), tmp_path / "predictions"
    assert monitor.step() == []
    rows = generate_day(0)
    append_records(folder, [encode_record(rows, n) for n in range(300)])
    assert monitor.step() == []
    append_records(folder, [encode_record(rows, n) for n in range(300, ROWS)])
    (folder / "00000001.open").rename(folder / "00000001.tfrecord")
    log_days(folder, 1, file=2)
    (result,) = monitor.step()
    assert result.window == FIRST and result.rows == ROWS


def test_new_version_uses_its_own_reference_and_a_shared_window_is_not_judged(
    new_monitor: Callable[..., GatewayMonitor], tmp_path: Path
) -> None:
    folder = tmp_path / "predictions"
    log_days(folder, 0)
    rows = generate_day(1)
    append_records(folder, [encode_record(rows, n, 1 + (n > ROWS // 3)) for n in range(ROWS)])
    log_days(folder, 2, 3, version=2)
    results = new_monitor().step()
    assert [(result.version, bool(result.skipped)) for result in results] == [(1, False), (2, True), (2, False)]
    assert "Several versions" in results[1].skipped


def test_few_rows_and_versions_without_a_reference_are_not_judged(
    new_monitor: Callable[..., GatewayMonitor], tmp_path: Path
) -> None:
    rows = generate_day(0)
    append_records(tmp_path / "predictions", [encode_record(rows, n) for n in range(50)])
    log_days(tmp_path / "predictions", 1, version=9)
    log_days(tmp_path / "predictions", 2)
    results = new_monitor().step()
    assert "fewer than the minimum" in results[0].skipped and "No version" in results[1].skipped


def test_failed_alert_is_delivered_later_and_to_no_sink_twice(
    new_monitor: Callable[..., GatewayMonitor], tmp_path: Path
) -> None:
    received, failures = [], [True, True]

    def failing(news: dict) -> None:
        if failures:
            failures.pop()
            raise OSError("connection refused")
        received.append(("failing", news["incident"]["id"]))

    log_days(tmp_path / "predictions", 0, 1, factor=1.4)
    sinks = (lambda news: received.append(("good", news["incident"]["id"])), failing)
    new_monitor(*sinks).step()
    assert received == [("good", 1)]
    new_monitor(*sinks).step()  # after a restart
    new_monitor(*sinks).step()
    assert received == [("good", 1), ("failing", 1)]
    new_monitor(*sinks).step()
    assert len(received) == 2


def test_damaged_state_is_rebuilt_from_the_log(new_monitor: Callable[..., GatewayMonitor], tmp_path: Path) -> None:
    log_days(tmp_path / "predictions", 0, 1)
    expected = new_monitor().step()
    (tmp_path / STATE_FILE).write_text("{")
    assert new_monitor().step() == expected
