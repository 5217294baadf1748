"""``showcase submit --kubernetes`` against a stand-in for Kubernetes' API."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.in_process import run_in_process
from support.jobs_server import FakeJobsApi, run_fake_jobs_api

from cli.kubeflow import job_runs
from pipeline.kubeflow.jobs import job_run
from pipeline.kubeflow.jobs.task_specs import TaskSpec

pytestmark = pytest.mark.system

TASKS = [
    TaskSpec(name="begin", title="Begin", upstream=(), container={"name": "main"}),
    TaskSpec(name="end", title="End", upstream=("begin",), container={"name": "main"}),
]


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeJobsApi]:
    """The stand-in; compiling is replaced, since tests/pipeline/kubeflow compiles."""
    monkeypatch.setattr(job_run, "PERIOD", 0.0)
    monkeypatch.setattr(job_runs, "compile_spec", lambda *_: [])
    monkeypatch.setattr(job_runs, "read_tasks", lambda *_: TASKS)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with run_fake_jobs_api({}) as server:
        server.write_kubeconfig(tmp_path / "config")
        yield server


def submit(home: Path, *words: str) -> object:
    return run_in_process("submit", "fraud", "--kubernetes", "--home", str(home), *words)


def test_run_ends_with_code_0_and_leaves_the_logs(api: FakeJobsApi, tmp_path: Path) -> None:
    result = submit(tmp_path / "home", "--json")
    report = json.loads(result.stdout)
    assert result.returncode == 0 and report["pushed"] and report["tasks"]["End"]["state"] == "done"
    assert (Path(report["logs"]) / "Begin.log").is_file() and "Begin done" in result.stderr


def test_refused_run_ends_with_code_1_and_can_be_resumed_and_cancelled(api: FakeJobsApi, tmp_path: Path) -> None:
    api.script = {"begin": [3]}
    refused = submit(tmp_path, "--json")
    run = json.loads(refused.stdout)["run"]
    assert refused.returncode == 1 and "Begin refused exit code 3" in refused.stderr
    api.script = {}
    assert submit(tmp_path, "--resume", run).returncode == 0
    assert "deleted 2 Jobs" in submit(tmp_path, "--cancel", run).stdout
    again = submit(tmp_path, "--cancel", run)
    assert again.returncode == 2 and "has no Jobs of the run" in again.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("submit", "fraud"), "either --host"),
        (("submit", "fraud", "--host", "http://x", "--kubernetes"), "either --host"),
        (("submit", "fraud", "--host", "http://x", "--resume", "run-1"), "belong to --kubernetes"),
        (("submit", "fraud", "--kubernetes", "--every", "0 0 3 * * *"), "belong to --host"),
    ],
)
def test_options_of_the_other_target_are_refused(words: tuple[str, ...], message: str) -> None:
    result = run_in_process(*words)
    assert result.returncode == 2 and message in result.stderr


def test_missing_cluster_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    result = submit(tmp_path)
    assert result.returncode == 2 and "set KUBECONFIG" in result.stderr
