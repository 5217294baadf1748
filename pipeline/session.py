"""Execute a plan: resume an interrupted run, reuse a finished one, or start a new one, and record how it ended."""

import gc
import json
import os
import subprocess
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline import cache_key
from pipeline.checkout import ROOT
from pipeline.interruption import Interruption
from pipeline.local.progress import Progress, Report
from pipeline.metadata import bucket_copy, store
from pipeline.plan import PACKAGES, Plan
from pipeline.run import Run
from pipeline.runtime import Runtime
from pipeline.tracking import recording
from serving import bucket_folders


def execute(plan: Plan, runtime: Runtime, fresh: bool, report: Report) -> Run:
    """Run the plan, resume its interrupted run, or reuse its finished one.

    If a run with the same fingerprint was pushed and its model is still the last one blessed, its result is registered as
    a cached run; TensorFlow is not imported. A killed run is resumed under its own id, so that its finished stages and
    its choice of the blessed model are kept.

    Raises:
        BusyError: if another run of the case is in progress in this home.
        BucketError: if the home is in a bucket that does not take the data, the logs or the metadata.
    """
    with store.exclusive_lock(Path(runtime.root, plan.case.name, "run.lock"), f"run of {plan.case.name}"):
        upload_source(plan, runtime)
        run = _execute(plan, runtime, fresh, report)
        bucket_folders.push(runtime.case(plan.case.name).logs / run.id)
        bucket_copy.upload_store(Path(runtime.root))
        return run


def upload_source(plan: Plan, runtime: Runtime) -> None:
    """Upload data that lies in a home in a bucket, for stages on other machines; data elsewhere belongs to others.

    Raises:
        BucketError: if the bucket does not take it.
    """
    if Path(plan.source).is_relative_to(runtime.root):
        bucket_folders.push(Path(plan.source))


def _execute(plan: Plan, runtime: Runtime, fresh: bool, report: Report) -> Run:
    run = register_run(plan, runtime, fresh)
    if run.state == "pushed":
        report({name: Progress("cached") for name in store.stage_states(runtime.metadata, run.id)})
        return run
    return _run(plan, runtime, run, fresh, report)


def register_run(plan: Plan, runtime: Runtime, fresh: bool = False, external_id: str = "") -> Run:
    """Register a run: a cached one, already in the state pushed; an unfinished one to resume; or a new one.

    Args:
        external_id: Id of the run, if an external orchestrator such as Kubeflow runs the stages. Then no unfinished run is
            resumed, because this process cannot check whether it is still alive.
    """
    past_runs = store.runs(runtime.metadata, plan.case.name)
    fingerprint = plan.fingerprint()
    matching = [run for run in past_runs if run.fingerprint == fingerprint]
    if external_id and matching and matching[-1].id == external_id:  # a retry of the task that begins the run
        return matching[-1]
    if not fresh and matching and matching[-1].state == "pushed" and _is_current(matching[-1], past_runs):
        return _register_cached(plan, runtime, matching[-1], external_id)
    is_unfinished = (
        matching
        and matching[-1].state in ("running", "stopped", "interrupted", "failed")
        and past_runs[-1].id == matching[-1].id
    )
    process_id = {} if external_id else {"pid": str(os.getpid())}
    if is_unfinished and not fresh and not external_id:
        run = replace(matching[-1], state="running", reason="", facts={**matching[-1].facts, **process_id})
    else:
        run_id = external_id or make_run_id(plan.case.name)
        run = Run(
            id=run_id,
            case=plan.case.name,
            state="running",
            reason="",
            fingerprint=fingerprint,
            facts=_collect_facts(plan) | process_id,
        )
    store.save(runtime.metadata, run)
    return run


def _collect_facts(plan: Plan) -> dict[str, str]:
    """Return the facts of a run that are fixed before it starts: data, settings, code and library versions, as text by name."""
    return {
        "started": store.utc_now(),
        "source": plan.source,
        "spans": f"{plan.first}:{plan.last}",
        "data_version": plan.data_version,
        "settings": json.dumps(plan.settings, sort_keys=True),
        "space": json.dumps(plan.space),
        "base": plan.base.run if plan.base else "",
        "decision": plan.decision,
        "commit": _read_commit(),
        "lock": cache_key.lock_digest(),
        "libraries": json.dumps({name: version(name) for name in PACKAGES}),
    }


def _read_commit() -> str:
    """Return the commit of the code, with a + if files differ from it; empty outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def record_end(
    runtime: Runtime, run: Run, state: str, reason: str, facts: Mapping[str, str], tracker: recording.Tracker
) -> Run:
    """Record how a run ended in the metadata store, then in the experiment tracker."""
    ended = replace(run, state=state, reason=reason, facts={**run.facts, **facts, "ended": store.utc_now()})
    store.save(runtime.metadata, ended)
    # Saved before tracking, so that a failure of the tracker cannot lose the run's end.
    tracked = replace(ended, facts={**ended.facts, **tracker.finish(ended)})
    store.save(runtime.metadata, tracked)
    return tracked


def _run(plan: Plan, runtime: Runtime, run: Run, fresh: bool, report: Report) -> Run:
    logs = runtime.case(plan.case.name).logs / run.id
    tracker, interruption = recording.Tracker(runtime, logs / "tracking.log"), Interruption()

    def report_unless_interrupted(progress: Mapping[str, Progress]) -> None:
        interruption.check()
        report(progress)

    try:
        with interruption.listen(), redirect_stderr(logs / "run.log"):
            graph, runner, outcome = import_tfx_modules()
            ir = runner.compile_graph(graph.build(plan), plan.case.name, runtime, run.id, salt=run.id if fresh else "")
            with runtime.beam.sidecar(logs):
                progress = runner.run(ir, runtime, logs, report_unless_interrupted)
            state, reason, facts = outcome.summarize_outcome(runtime, run.id, progress, plan)
            facts["stages"] = json.dumps({name: asdict(stage) for name, stage in progress.items()})
    except KeyboardInterrupt:
        state, facts = "interrupted", {}
        reason = "Interrupted; the same command resumes it after the last finished stage."
    except Exception as error:
        with (logs / "run.log").open("a") as log:
            traceback.print_exception(error, file=log)
        state, facts = "failed", {}
        reason = f"{type(error).__name__}: {error} See {logs / 'run.log'} for the traceback."
    return record_end(runtime, run, state, reason, facts, tracker)


def import_tfx_modules() -> tuple[Any, Any, Any]:
    """Import and return the modules that need TFX.

    The imports create millions of permanent objects; garbage collection of them would take a tenth of the start-up time.
    """
    gc.disable()
    from pipeline import graph, outcome
    from pipeline.local import runner

    gc.freeze()
    gc.enable()
    return graph, runner, outcome


@contextmanager
def redirect_stderr(path: Path) -> Iterator[None]:
    """Redirect standard error to a log file at the level of the file descriptor, which C++ libraries write to directly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    saved_descriptor = os.dup(2)
    with path.open("a") as log:
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved_descriptor, 2)
        os.close(saved_descriptor)


def _register_cached(plan: Plan, runtime: Runtime, pushed_run: Run, external_id: str) -> Run:
    run_id = external_id or make_run_id(plan.case.name)
    store.copy_as_cached(runtime.metadata, pushed_run.id, run_id)
    facts = {
        **pushed_run.facts,
        "started": store.utc_now(),
        "ended": store.utc_now(),
        "same_as": pushed_run.facts.get("same_as", pushed_run.id),
    }
    facts |= {"decision": plan.decision}
    run = replace(pushed_run, id=run_id, facts=facts)
    store.save(runtime.metadata, run)
    return run


def _is_current(run: Run, past_runs: list[Run]) -> bool:
    """Whether the run's version exists and no later run pushed another; otherwise the model has to be compared again."""
    pushed = [past_run for past_run in past_runs if past_run.state == "pushed"]
    bucket_folders.pull(run.pushed_folder)
    return pushed[-1].facts.get("pushed") == run.facts.get("pushed") and run.pushed_folder.is_dir()


def make_run_id(case: str) -> str:
    """Return a new run id: the case and the local time to the millisecond."""
    return f"{case}-{datetime.now():%Y%m%d-%H%M%S-%f}"[:-3]
