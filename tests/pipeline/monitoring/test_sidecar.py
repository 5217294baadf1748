"""The monitor process of a gateway: restarted when killed, ended with the gateway, visible in the gateway's metrics."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from support.command import ROOT
from support.drift_case import CUT, fit_reference_profile, log_days, save_profiles
from support.process import is_alive

from models.catalog import CASES
from pipeline.monitoring import sidecar
from serving.drift.gateway_monitor import STATE_FILE, GatewayMonitor
from serving.gateway.gateway_metrics import GatewayMetrics


async def wait_until(condition) -> None:
    while not condition():
        await asyncio.sleep(0.02)


@pytest.mark.system
def test_killed_monitor_is_restarted_and_ends_with_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecar, "RESTART_SECONDS", 0.05)

    async def work() -> tuple[int, int]:
        monitor = sidecar.MonitorProcess(tmp_path, ["fraud"])
        monitor._command = [sys.executable, "-c", "import time; time.sleep(600)"]
        monitor.start()
        await wait_until(lambda: monitor.pid)
        first = monitor.pid
        os.kill(first, signal.SIGKILL)
        await wait_until(lambda: monitor.pid not in (None, first))
        second = monitor.pid
        await monitor.close()
        return first, second

    first, second = asyncio.run(asyncio.wait_for(work(), 60))
    assert not is_alive(first) and not is_alive(second)


@pytest.mark.system
def test_monitor_process_follows_the_log_without_tensorflow(tmp_path: Path) -> None:
    """Run one step in a process like the one that the gateway starts."""
    folder = tmp_path / "fraud" / "online"
    save_profiles(tmp_path / "fraud" / "versions", fit_reference_profile())
    log_days(folder / "predictions", 0, 1)
    probe = (
        "import sys, pipeline.monitoring.sidecar as live\n"
        "def once(seconds): raise KeyboardInterrupt\n"
        "live.time.sleep = once\n"
        f"sys.argv = ['live', '--home', {str(tmp_path)!r}, 'fraud', 'image']\n"
        "try: live.main()\n"
        "except KeyboardInterrupt: print(sorted({'tensorflow', 'tfx', 'apache_beam'} & set(sys.modules)))\n"
    )
    process = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert process.stdout == "[]\n", process.stderr
    assert [window["rows"] for window in json.loads((folder / STATE_FILE).read_text())["windows"]] == [400]


def test_gauges_show_open_incidents_and_drop_resolved_ones(tmp_path: Path) -> None:
    folder = tmp_path / "fraud" / "online"
    save_profiles(tmp_path / "versions", fit_reference_profile())
    metrics = GatewayMetrics()
    sidecar.export_gauges(metrics, tmp_path, ["fraud"])
    assert b"drift_window{" not in metrics.text()  # no state yet
    log_days(folder / "predictions", 0, 1, factor=1.4)
    GatewayMonitor("fraud", folder, tmp_path / "versions", CUT, []).step()
    text = metrics.text().decode()
    assert (
        'drift_incidents{case="fraud",kind="drift"} 1.0' in text and 'drift_moved{case="fraud",column="amount"}' in text
    )
    assert 'drift_metric{case="fraud",what="estimate"} 0.' in text
    state = json.loads((folder / STATE_FILE).read_text())
    state["windows"][-1]["moved"] = []
    state["judge"]["incidents"]["seen"][0]["state"] = "resolved"
    (folder / STATE_FILE).write_text(json.dumps(state))
    os.utime(folder / STATE_FILE, (1, 1))
    text = metrics.text().decode()
    assert 'drift_incidents{case="fraud",kind="drift"} 0.0' in text and "drift_moved{" not in text


def test_cut_is_by_event_time_or_rows_of_the_case() -> None:
    assert (
        asdict(sidecar.window_cut(CASES["fraud"]))["time"] == "event_time"
        and sidecar.window_cut(CASES["image"]).rows == 500
    )
