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
from support.drift_case import CUT, pushed, served, usual
from support.process import alive

from models.catalog import CASES
from pipeline.monitoring import sidecar
from serving.drift.gateway_monitor import STATE, Live
from serving.gateway.gateway_metrics import Metrics


async def wait_until(condition) -> None:
    while not condition():
        await asyncio.sleep(0.02)


@pytest.mark.system
def test_killed_monitor_is_restarted_and_ends_with_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecar, "PATIENCE", 0.05)

    async def work() -> tuple[int, int]:
        monitor = sidecar.Beside(tmp_path, ["fraud"])
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
    assert not alive(first) and not alive(second)


@pytest.mark.system
def test_monitor_process_follows_the_log_without_tensorflow(tmp_path: Path) -> None:
    """Run one step in a process like the one that the gateway starts."""
    folder = tmp_path / "fraud" / "online"
    pushed(tmp_path / "fraud" / "versions", usual())
    served(folder / "predictions", 0, 1)
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
    assert [window["rows"] for window in json.loads((folder / STATE).read_text())["windows"]] == [400]


def test_gauges_show_open_incidents_and_drop_resolved_ones(tmp_path: Path) -> None:
    folder = tmp_path / "fraud" / "online"
    pushed(tmp_path / "versions", usual())
    metrics = Metrics()
    sidecar.gauges(metrics, tmp_path, ["fraud"])
    assert b"drift_window{" not in metrics.text()  # no state yet
    served(folder / "predictions", 0, 1, factor=1.4)
    Live("fraud", folder, tmp_path / "versions", CUT, []).step()
    text = metrics.text().decode()
    assert (
        'drift_incidents{case="fraud",kind="drift"} 1.0' in text and 'drift_moved{case="fraud",column="amount"}' in text
    )
    assert 'drift_metric{case="fraud",what="estimate"} 0.' in text
    state = json.loads((folder / STATE).read_text())
    state["windows"][-1]["moved"] = []
    state["judge"]["incidents"]["seen"][0]["state"] = "resolved"
    (folder / STATE).write_text(json.dumps(state))
    os.utime(folder / STATE, (1, 1))
    text = metrics.text().decode()
    assert 'drift_incidents{case="fraud",kind="drift"} 0.0' in text and "drift_moved{" not in text


def test_cut_is_by_event_time_or_rows_of_the_case() -> None:
    assert asdict(sidecar.cut(CASES["fraud"]))["time"] == "event_time" and sidecar.cut(CASES["image"]).rows == 500
