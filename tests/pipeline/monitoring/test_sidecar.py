"""The monitor's process beside the gateway: there again when killed, gone with it, and heard through the metrics."""

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


async def until(done) -> None:
    while not done():
        await asyncio.sleep(0.02)


@pytest.mark.system
def test_a_killed_monitor_is_started_again_and_ends_with_the_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidecar, "PATIENCE", 0.05)

    async def work() -> tuple[int, int]:
        beside = sidecar.Beside(tmp_path, ["fraud"])
        beside._command = [sys.executable, "-c", "import time; time.sleep(600)"]
        beside.start()
        await until(lambda: beside.pid)
        first = beside.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: beside.pid not in (None, first))
        second = beside.pid
        await beside.close()
        return first, second

    first, second = asyncio.run(asyncio.wait_for(work(), 60))
    assert not alive(first) and not alive(second)


@pytest.mark.system
def test_the_process_follows_the_log_of_a_case_without_tensorflow(tmp_path: Path) -> None:
    """In a process as the gateway starts it, told of one step only."""
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
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.stdout == "[]\n", done.stderr
    assert [one["rows"] for one in json.loads((folder / STATE).read_text())["windows"]] == [400]


def test_the_metrics_show_what_is_open_and_forget_what_is_over(tmp_path: Path) -> None:
    folder = tmp_path / "fraud" / "online"
    pushed(tmp_path / "versions", usual())
    metrics = Metrics()
    sidecar.gauges(metrics, tmp_path, ["fraud"])
    assert b"drift_window{" not in metrics.text()  # nothing is known yet
    served(folder / "predictions", 0, 1, factor=1.4)
    Live("fraud", folder, tmp_path / "versions", CUT, []).step()
    said = metrics.text().decode()
    assert (
        'drift_incidents{case="fraud",kind="drift"} 1.0' in said and 'drift_moved{case="fraud",column="amount"}' in said
    )
    assert 'drift_metric{case="fraud",what="estimate"} 0.' in said
    state = json.loads((folder / STATE).read_text())
    state["windows"][-1]["moved"] = []
    state["judge"]["incidents"]["seen"][0]["state"] = "resolved"
    (folder / STATE).write_text(json.dumps(state))
    os.utime(folder / STATE, (1, 1))
    said = metrics.text().decode()
    assert 'drift_incidents{case="fraud",kind="drift"} 0.0' in said and "drift_moved{" not in said


def test_the_cut_is_the_cases() -> None:
    assert asdict(sidecar.cut(CASES["fraud"]))["time"] == "event_time" and sidecar.cut(CASES["image"]).rows == 500
