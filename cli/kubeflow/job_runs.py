"""Functions behind `showcase submit --kubernetes`: run a compiled spec as Jobs, watch it, cancel it."""

import dataclasses
import json
import secrets
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cli.kubeflow.specs import compile_spec
from models.catalog import find_use_case
from pipeline.home import Home
from pipeline.kubeflow import deployment
from pipeline.kubeflow.jobs.job_run import JobRun, JobsClient, TaskStatus
from pipeline.kubeflow.jobs.task_specs import read_tasks
from pipeline.plan import RunRequest


@dataclass(frozen=True)
class JobTarget:
    """Where Jobs run.

    Attributes:
        namespace: Their namespace.
        account: Service account of the pods; empty for the namespace's default.
        run: Id of a run to take up again; empty for a new run.
    """

    namespace: str
    account: str = ""
    run: str = ""


def run_jobs(
    case: str, target: JobTarget, home: Path, cluster: Path | None, as_json: bool, request_fields: dict[str, Any]
) -> int:
    """Compile the pipeline and run its tasks as Jobs until the run has ended; return the exit code, 0 if a model was pushed.

    Ctrl-C stops the watching: Jobs that run continue, and no further one is started until the run is resumed.

    Raises:
        ClusterError: if the cluster refuses a request or does not answer.
    """
    settings = deployment.place_in(deployment.read_deployment(cluster or deployment.DEFAULT_FILE), home)
    run = target.run or f"{case}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    connection = JobsClient(target.namespace, run)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, f"{case}.yaml")
        compile_spec(path, RunRequest(find_use_case(case), **request_fields), settings)
        tasks = read_tasks(path, run)
    logs = Home(home).case(case).logs / run
    job_run = JobRun(
        cluster=connection,
        run=run,
        tasks=tasks,
        account=target.account,
        placement_seconds=settings.placement_seconds,
        logs=logs,
    )
    titles = {task.name: task.title for task in tasks}
    print(f"run {run}: {len(tasks)} tasks; logs in {logs}", file=sys.stderr)
    try:
        statuses = job_run.execute(_Printer(titles))
    except KeyboardInterrupt:
        print(f"stopped watching; continue with `showcase submit {case} --kubernetes --resume {run}`", file=sys.stderr)
        raise
    is_pushed = all(status.state == "done" for status in statuses.values())
    if as_json:
        states = {titles[name]: dataclasses.asdict(status) for name, status in statuses.items()}
        print(json.dumps({"run": run, "pushed": is_pushed, "logs": str(logs), "tasks": states}, indent=1))
    else:
        print(f"{'pushed' if is_pushed else 'not pushed'} (run {run})")
    return 0 if is_pushed else 1


def cancel(run: str, namespace: str) -> None:
    """Delete the Jobs of a run.

    Raises:
        ValueError: if the run has none.
    """
    connection = JobsClient(namespace, run)
    count = JobRun(cluster=connection, run=run, tasks=(), account="", placement_seconds=0, logs=Path()).cancel()
    if not count:
        raise ValueError(f"The namespace {namespace} has no Jobs of the run {run}.")
    print(f"deleted {count} Jobs of {run}")


class _Printer:
    """Prints a line for each change of a task's state."""

    def __init__(self, titles: Mapping[str, str]) -> None:
        self._titles, self._previous = titles, dict.fromkeys(titles, TaskStatus("waiting"))

    def __call__(self, statuses: Mapping[str, TaskStatus]) -> None:
        for name, status in statuses.items():
            if status != self._previous[name]:
                line = f"{datetime.now():%H:%M:%S} {self._titles[name]} {status.state} {status.message}"
                print(line.rstrip(), file=sys.stderr)
        self._previous = dict(statuses)
