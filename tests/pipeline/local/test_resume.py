"""A run killed in any stage resumes from the last finished stage and ends with the same result."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from support.command import showcase
from support.killed_run import kill_run
from support.repeated_run import repeat

from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress

pytestmark = pytest.mark.system

# TFX's launcher publishes a successful execution in the store; its outputs have been written by then.
PUBLISH = "tfx.orchestration.portable.launcher:Launcher._publish_successful_execution"
# One stage of each kind, held where a kill leaves the most state behind: outputs that are written but not published (by
# Beam after a custom driver, and by a Python function), none yet (a TFX component), a checkpoint, half of a version.
HELD = {
    "SpanExampleGen": (PUBLISH, "before"),
    "Transform": ("pipeline.local.runner:_sweep", "before"),
    "DataGate": (PUBLISH, "before"),
    "Trainer": ("models.training.checkpoint:CheckpointSaver.save", "after"),
    "Pusher": ("shutil:copytree", "after"),
}
HALF = "half"  # a partial output of a killed stage


def count_completions(address: MetadataAddress) -> Counter[str]:
    """Return how often each stage completed."""
    with store.open_for_writing(address) as connection:
        names = {kind.id: kind.name.rsplit(".", 1)[-1] for kind in connection.get_execution_types()}
        completed = [run for run in connection.get_executions() if run.last_known_state == mlmd.Execution.COMPLETE]
    return Counter(names[run.type_id] for run in completed)


@pytest.mark.slow
def test_run_killed_in_each_kind_of_stage_resumes_and_ends_with_the_same_metrics(pushed_home, tmp_path):
    (uninterrupted,), home = store.runs(MetadataAddress.of(pushed_home), "image"), tmp_path / "home"
    versions, artifacts, address = home / "image" / "versions", home / "image" / "artifacts", MetadataAddress.of(home)
    arguments = [*repeat(uninterrupted), "--home", home, "--json"]
    done: set[str] = set()
    for stage in HELD:
        kill_run(stage, *HELD[stage], arguments, tmp_path)
        (run,) = store.runs(address, "image")
        assert run.state == "stopped"
        finished = {name for name, state in store.stage_states(address, run.id).items() if state == "done"}
        assert stage not in finished and done <= finished
        done = finished
        for outputs in (artifacts / stage).glob("*/[0-9]*"):
            (outputs / HALF).touch()
        assert not list(versions.glob("[0-9]*"))
    assert os.listdir(versions) != []  # the incomplete copy
    ended = showcase(*arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    result = json.loads(ended.stdout)
    metrics, expected = (json.loads(facts["metrics"]) for facts in (result["facts"], uninterrupted.facts))
    assert result["id"] == run.id and metrics == pytest.approx(expected, abs=1e-6)
    assert os.listdir(versions) == ["1"]
    trained = Path(store.outputs(address, run.id)["Trainer"]["model_run"].uri, "training.json")
    assert any("went on at step" in entry["what"] for entry in json.loads(trained.read_text())["journal"])
    assert not list(artifacts.rglob(HALF))
    # The Resolver runs in every attempt; no other stage runs twice.
    completions = {name: number for name, number in count_completions(address).items() if name != "Resolver"}
    assert completions and set(completions.values()) == {1}, completions
