"""Runs whose home is in a bucket end as in a folder: killed and resumed, on several machines, and in pods without a volume."""

import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.command import ROOT, command_server, showcase
from support.in_process import run_in_process
from support.killed_run import kill_run
from support.pushed_home import SMALL_RUNS, format_settings
from support.small_runs import FEW

from models.catalog import CASES
from pipeline.home import Home, open_home
from pipeline.kubeflow import compiler, task
from pipeline.metadata import store, store_server
from pipeline.metadata.store_address import ADDRESS_FILE, MetadataAddress
from pipeline.plan import RunRequest
from pipeline.run import Run
from serving import bucket, bucket_folders

pytestmark = pytest.mark.system

# After the first object of an upload, of which there are more.
UPLOAD = "serving.bucket:push_file"


@pytest.fixture
def metadata_server(tmp_path):
    """Address of a metadata server."""
    server, port = store_server.serve(MetadataAddress(tmp_path / "server.sqlite"), 0, "127.0.0.1")
    yield f"grpc://127.0.0.1:{port}"
    server.stop(None)


def check_bucket_is_whole(keys: list[str], case: str) -> None:
    """Check that each object of an artifact or a version is in a folder with a manifest: no killed attempt left anything."""
    manifests = {key.removesuffix(".manifest") for key in keys if key.endswith(".manifest")}
    for key in keys:
        parts = key.split("/")
        if key.startswith(f"{case}/artifacts/") and not key.endswith(".manifest"):
            assert "/".join(parts[:5]) in manifests, key
        if key.startswith(f"{case}/versions/") and parts[2].isdecimal():
            assert "/".join(parts[:3]) in manifests, key


def read_run(home: Path, case: str) -> Run:
    run = Home(home).runs(case)[-1]
    assert run.state == "pushed", run.reason
    return run


@pytest.mark.slow
def test_run_killed_in_two_uploads_ends_with_the_metrics_of_a_folder_and_is_cached_elsewhere(
    s3_server, bucket_home, pushed_home, tmp_path, monkeypatch
):
    arguments = ["run", "image", "--root", bucket_home, "--json", *format_settings(SMALL_RUNS["image"])]
    for stage in ("Trainer", "Pusher"):
        kill_run(stage, UPLOAD, "after", arguments, tmp_path)
        keys = s3_server.list_keys(bucket_home.removeprefix("s3://"))
        assert any(f"image/{'versions' if stage == 'Pusher' else 'artifacts/Trainer'}/" in key for key in keys)
        assert not [key for key in keys if key.startswith("image/versions/") and key.endswith(".manifest")]
    ended = showcase(*arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    run, expected = read_run(open_home(bucket_home), "image"), read_run(pushed_home, "image")
    assert run.metrics == pytest.approx(expected.metrics, abs=1e-6) and run.version == 1
    keys = s3_server.list_keys(bucket_home.removeprefix("s3://"))
    assert "image/versions/1.manifest" in keys and "metadata.sqlite" in keys
    assert f"image/logs/{run.id}.manifest" in keys
    check_bucket_is_whole(keys, "image")
    monkeypatch.setenv("SHOWCASE_CACHE", str(tmp_path / "second"))
    again = showcase(*arguments)
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads(again.stdout)["facts"]["same_as"] == run.id
    status = run_in_process("status", "image", "--root", bucket_home)
    assert status.returncode == 0 and f"{tmp_path / 'second'}/s3/" in status.stdout


@pytest.mark.slow
def test_two_machines_push_side_by_side_and_both_versions_are_whole(s3_server, bucket_home, metadata_server, tmp_path):
    bucket.write_file(bucket.working_copy(bucket_home) / ADDRESS_FILE, metadata_server.encode())
    settings = format_settings(FEW["image"] | {"max_accuracy_loss": 1})

    def run(seed: int) -> subprocess.CompletedProcess[str]:
        words = ("run", "image", "--root", bucket_home, "--seed", seed, "--tracking", "none", "--json", *settings)
        return showcase(*words, env={**os.environ, "SHOWCASE_CACHE": str(tmp_path / f"machine-{seed}")})

    with ThreadPoolExecutor(2) as machines:
        results = list(machines.map(run, (1, 2)))
    assert [ended.returncode for ended in results] == [0, 0], results
    runs = [json.loads(ended.stdout) for ended in results]
    assert sorted(run["facts"]["version"] for run in runs) == ["1", "2"]
    home = open_home(bucket_home)
    check_bucket_is_whole(s3_server.list_keys(bucket_home.removeprefix("s3://")), "image")
    for run in Home(home).runs("image"):
        assert bucket_folders.pull(run.pushed_folder)
        origin = json.loads((run.pushed_folder / "assets.extra" / "origin.json").read_text())["model"]
        outputs = store.outputs(Home(home).metadata, run.id)
        assert origin.startswith(bucket.uri_of(Path(outputs["ServingCheck"]["blessing"].uri)))


@pytest.mark.slow
def test_pods_without_a_shared_volume_end_with_the_metrics_of_a_folder(
    bucket_home, metadata_server, pushed_home, tmp_path, monkeypatch
):
    """Each task has a disk of its own, which is empty when it starts and deleted when it ends."""
    changes = {name: str(value) for name, value in SMALL_RUNS["fraud"].items()}
    request = RunRequest(CASES["fraud"], changes=changes)
    nodes = [compiler.FIRST_TASK, *compiler.find_upstream_nodes(request), compiler.LAST_TASK]
    for name in nodes:
        disk = tmp_path / "disk"
        monkeypatch.setenv("SHOWCASE_CACHE", str(disk))
        arguments = (name, "run-1", bucket_home, metadata_server, task.dump_request(request))
        ended = command_server().run("tests.support.pod_task", *arguments, cwd=ROOT, timeout=1200)
        assert ended.returncode == 0, f"{name}: {ended.stdout}{ended.stderr}"
        shutil.rmtree(disk)
    run, expected = read_run(open_home(bucket_home), "fraud"), read_run(pushed_home, "fraud")
    assert run.metrics == pytest.approx(expected.metrics, abs=1e-6)
    assert set(store.stage_states(MetadataAddress(metadata_server), "run-1").values()) == {"done"}
    assert bucket.read_file(bucket.working_copy(bucket_home) / "fraud" / "versions" / "1" / "saved_model.pb")


def test_bucket_that_does_not_exist_is_one_error_before_anything_runs(bucket_home, tmp_path):
    result = run_in_process("run", "image", "--root", "s3://no-such-bucket/home")
    assert result.returncode == 2 and "s3://no-such-bucket/home cannot be read or written" in result.stderr
    assert "Traceback" not in result.stderr and not (tmp_path / "cache").exists()
