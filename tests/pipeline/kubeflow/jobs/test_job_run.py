"""Runs of Jobs against a stand-in for Kubernetes' API."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from support.jobs_server import FakeJobsApi, run_fake_jobs_api

from pipeline.kubeflow.jobs import job_run
from pipeline.kubeflow.jobs.job_run import ClusterError, JobRun, JobsClient
from pipeline.kubeflow.jobs.task_specs import TaskSpec

pytestmark = pytest.mark.system

# A diamond: begin, then left and right, then end.
UPSTREAM = {"begin": (), "left": ("begin",), "right": ("begin",), "end": ("left", "right")}
TASKS = [
    TaskSpec(name=name, title=name.title(), upstream=upstream, container={"name": "main"}, retries=1)
    for name, upstream in UPSTREAM.items()
]
Script = dict[str, Sequence[int | None]]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the Jobs without a pause."""
    monkeypatch.setattr(job_run, "PERIOD", 0.0)


def start_run(server: FakeJobsApi, folder: Path, monkeypatch: pytest.MonkeyPatch, run: str = "run-1") -> JobRun:
    server.write_kubeconfig(folder / "config")
    monkeypatch.setenv("KUBECONFIG", str(folder / "config"))
    return JobRun(
        cluster=JobsClient("default", run),
        run=run,
        tasks=TASKS,
        account="",
        placement_seconds=60.0,
        logs=folder / "logs" / run,
    )


def test_tasks_run_after_their_upstream_tasks_and_leave_their_logs(tmp_path: Path, monkeypatch) -> None:
    with run_fake_jobs_api({}) as server:
        statuses = start_run(server, tmp_path, monkeypatch).execute(lambda _: None)
    assert {status.state for status in statuses.values()} == {"done"}
    assert server.created[0] == "begin" and server.created[-1] == "end" and len(server.created) == 4
    assert (tmp_path / "logs" / "run-1" / "Left.log").read_text() == "log of run-1-left-0"


@pytest.mark.parametrize(
    ("codes", "state"), [([1, 0], "done"), ([1, 1], "failed"), ([3], "refused"), ([1, 3], "refused")]
)
def test_exit_codes_decide_about_the_task_and_the_tasks_after_it(
    tmp_path: Path, monkeypatch, codes: list[int], state: str
) -> None:
    with run_fake_jobs_api({"left": codes}) as server:
        statuses = start_run(server, tmp_path, monkeypatch).execute(lambda _: None)
    assert statuses["left"].state == state
    assert statuses["right"].state == "done"  # a task that runs beside a failing one runs to its end
    assert ("end" in server.created) == (state == "done")


def test_task_that_no_machine_takes_fails_after_the_stated_time(tmp_path: Path, monkeypatch) -> None:
    with run_fake_jobs_api({"right": [None]}) as server:
        statuses = start_run(server, tmp_path, monkeypatch).execute(lambda _: None)
    assert statuses["right"].state == "failed" and "Insufficient cpu" in statuses["right"].message
    assert server.deleted == ["run-1-right"] and "end" not in server.created


def test_resumed_run_keeps_what_is_done_and_starts_again_what_failed(tmp_path: Path, monkeypatch) -> None:
    with run_fake_jobs_api({"left": [1, 1]}) as server:
        start_run(server, tmp_path, monkeypatch).execute(lambda _: None)
        server.script = {}
        statuses = start_run(server, tmp_path, monkeypatch).execute(lambda _: None)
    assert {status.state for status in statuses.values()} == {"done"}
    assert server.deleted == ["run-1-left"] and sorted(server.created).count("begin") == 1


def test_two_runs_side_by_side_do_not_share_jobs(tmp_path: Path, monkeypatch) -> None:
    with run_fake_jobs_api({}) as server:
        for run in ("run-1", "run-2"):
            start_run(server, tmp_path, monkeypatch, run).execute(lambda _: None)
    assert len(server.jobs) == 8


def test_cancelled_run_leaves_no_jobs(tmp_path: Path, monkeypatch) -> None:
    with run_fake_jobs_api({"left": [None]}) as server:
        run = start_run(server, tmp_path, monkeypatch)
        run.execute(lambda _: None)
        assert run.cancel() == 2 and server.jobs == {}


def test_refused_request_names_kubernetes_answer(tmp_path: Path, monkeypatch) -> None:
    with run_fake_jobs_api({}) as server:
        server.statuses = [403]
        with pytest.raises(ClusterError, match="403"):
            start_run(server, tmp_path, monkeypatch).execute(lambda _: None)
    with pytest.raises(ClusterError, match="does not answer"):
        start_run(server, tmp_path, monkeypatch).cancel()


def test_missing_configuration_names_kubeconfig(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ClusterError, match="KUBECONFIG"):
        JobsClient("default", "run-1")
