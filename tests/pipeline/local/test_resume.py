"""Killed in any stage, the same command goes on from the last finished stage and ends the same."""

import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from support.command import ROOT, command_server, showcase
from support.process import alive
from support.repeated_run import repeat

from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress

pytestmark = pytest.mark.system

# TFX's launcher tells the store that a stage has ended well; its outputs are written then.
PUBLISH = "tfx.orchestration.portable.launcher:Launcher._publish_successful_execution"
# A stage of each kind, held where a kill leaves most behind: outputs that are written and unknown to the store (by Beam
# after a driver of our own, and by a function), nothing yet (a component of TFX's), a checkpoint, half a version.
HELD = {
    "SpanExampleGen": (PUBLISH, "before"),
    "Transform": ("pipeline.local.runner:_sweep", "before"),
    "DataGate": (PUBLISH, "before"),
    "Trainer": ("models.training.checkpoint:Saver.save", "after"),
    "Pusher": ("shutil:copytree", "after"),
}
HALF = "half"  # a file like those that a killed stage leaves


def kill_in(stage: str, words: list[object], folder: Path) -> None:
    """Starts the run, and kills it with SIGKILL where the stage is held."""
    reached, log = folder / f"{stage}.reached", folder / f"{stage}.log"
    with log.open("w") as said:
        held = ("tests.support.held_stage", stage, *HELD[stage], reached)
        run = command_server().start(*held, *words, cwd=ROOT, stdout=said, stderr=said)
    deadline = time.monotonic() + 600
    try:
        while not reached.exists():
            assert run.poll() is None and time.monotonic() < deadline, f"{stage} was not reached: {log.read_text()}"
            time.sleep(0.01)
    finally:
        run.kill()
        run.wait()
    while alive(int(reached.read_text())):
        assert time.monotonic() < deadline, f"{stage} outlives its run"
        time.sleep(0.01)


def completions(address: MetadataAddress) -> Counter[str]:
    """How often each stage ran to its end."""
    with store.opened(address) as opened:
        names = {kind.id: kind.name.rsplit(".", 1)[-1] for kind in opened.get_execution_types()}
        done = [one for one in opened.get_executions() if one.last_known_state == mlmd.Execution.COMPLETE]
    return Counter(names[one.type_id] for one in done)


@pytest.mark.slow
def test_killed_in_a_stage_of_each_kind_a_run_goes_on_and_ends_with_the_same_metrics(pushed_home, tmp_path):
    (clean,), home = store.runs(MetadataAddress.of(pushed_home), "image"), tmp_path / "home"
    versions, artifacts, address = home / "image" / "versions", home / "image" / "artifacts", MetadataAddress.of(home)
    words = [*repeat(clean), "--home", home, "--json"]
    done: set[str] = set()
    for stage in HELD:
        kill_in(stage, words, tmp_path)
        (run,) = store.runs(address, "image")
        assert run.state == "stopped"
        finished = {name for name, state in store.stage_states(address, run.id).items() if state == "done"}
        assert stage not in finished and done <= finished
        done = finished
        for outputs in (artifacts / stage).glob("*/[0-9]*"):
            (outputs / HALF).touch()
        assert not list(versions.glob("[0-9]*"))
    assert os.listdir(versions) != []  # the copy that was begun
    ended = showcase(*words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads(ended.stdout)
    metrics, expected = (json.loads(facts["metrics"]) for facts in (told["facts"], clean.facts))
    assert told["id"] == run.id and metrics == pytest.approx(expected, abs=1e-6)
    assert os.listdir(versions) == ["1"]
    trained = Path(store.outputs(address, run.id)["Trainer"]["model_run"].uri, "training.json")
    assert any("went on at step" in entry["what"] for entry in json.loads(trained.read_text())["journal"])
    assert not list(artifacts.rglob(HALF))
    # The Resolver looks for the blessed model in every attempt; nothing else runs twice.
    times = {name: number for name, number in completions(address).items() if name != "Resolver"}
    assert times and set(times.values()) == {1}, times
