"""Killed at any stage, the same command goes on from the last finished stage and ends the same."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.command import ROOT, showcase

from pipeline import store
from pipeline.metadata import MetadataAddress

STAGES = (
    "CuratedSchema",
    "SpanExampleGen",
    "StatisticsGen",
    "ExampleValidator",
    "DataGate",
    "Transform",
    "Trainer",
    "FitGate",
    "Evaluator",
    "LiteExporter",
    "Baseline",
    "ServingCheck",
    "Pusher",
)


def killed_in(stage: str, home: Path) -> bool:
    """Starts the run and kills it with SIGKILL while the stage runs; False if the stage was over too soon to be hit."""
    command = [sys.executable, "-m", "pipeline.cli", "run", "image", "--home", str(home)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    logs, deadline = home / "image" / "logs", time.monotonic() + 300
    known = {path: path.stat().st_mtime_ns for path in logs.glob(f"*/{stage}.log")}
    while time.monotonic() < deadline and process.poll() is None:
        fresh = [p for p in logs.glob(f"*/{stage}.log") if p.stat().st_mtime_ns != known.get(p)]
        if fresh and not fresh[0].with_suffix(".json").exists():
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.002)
    process.kill()
    process.wait()
    return False


@pytest.mark.slow
def test_killed_in_each_stage_in_turn_a_run_goes_on_and_ends_with_the_same_metrics(demo, tmp_path):
    done: set[str] = set()
    for stage in STAGES:
        assert killed_in(stage, tmp_path), f"{stage} was never seen running"
        runs = store.runs(MetadataAddress.of(tmp_path), "image")
        assert len(runs) == 1 and runs[0].state == "stopped"
        versions = tmp_path / "image" / "versions"
        assert not versions.exists() or all((v / "saved_model.pb").exists() for v in versions.glob("[0-9]*"))
        finished = {
            name
            for name, state in store.stage_states(MetadataAddress.of(tmp_path), runs[0].id).items()
            if state in ("done", "cached")
        }
        assert done <= finished, f"{done - finished} ran again"
        done = finished
    ended = showcase("run", "image", "--home", tmp_path, "--json")
    assert ended.returncode == 0, ended.stderr
    run, (_, summary) = json.loads(ended.stdout), demo
    clean = next(one for one in summary["runs"] if one["case"] == "image")
    assert json.loads(run["facts"]["metrics"]) == pytest.approx(json.loads(clean["facts"]["metrics"]), abs=1e-6)
    assert [v.name for v in (tmp_path / "image" / "versions").iterdir()] == ["1"]
