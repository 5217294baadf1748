"""Execute a plan: resume an interrupted run, reuse a finished one, or start a new one, and record how it ended."""

import gc
import json
import os
import signal
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline import run_facts as known
from pipeline.metadata import store
from pipeline.plan import Plan
from pipeline.progress import Progress, Report
from pipeline.runtime import Runtime
from pipeline.tracking import recording


def execute(plan: Plan, runtime: Runtime, fresh: bool, report: Report) -> store.Run:
    """Runs the plan, goes on with it, or finds it done.

    A run of the same fingerprint that ended in a push, whose model is still the last one blessed, is the answer: it is
    registered as a cached run without TensorFlow being imported. One that was killed is taken up under its own name, so
    that its finished stages stand and its choice of blessed model stays.

    Raises:
        BusyError: if another run of the case is under way in this home.
    """
    with store.alone(Path(runtime.root, plan.case.name, "run.lock"), f"run of {plan.case.name}"):
        return _execute(plan, runtime, fresh, report)


def _execute(plan: Plan, runtime: Runtime, fresh: bool, report: Report) -> store.Run:
    run = begin(plan, runtime, fresh)
    if run.state == "pushed":
        report({name: Progress("cached") for name in store.stage_states(runtime.metadata, run.id)})
        return run
    return _run(plan, runtime, run, fresh, report)


def begin(plan: Plan, runtime: Runtime, fresh: bool = False, given: str = "") -> store.Run:
    """Registers a run: found done, then it is pushed already; or to be gone on with; or new.

    Args:
        given: The run's name, by who runs the stages elsewhere; then no other run is taken up, since nobody here knows if
            it is dead.
    """
    past = store.runs(runtime.metadata, plan.case.name)
    fingerprint = plan.fingerprint()
    same = [run for run in past if run.fingerprint == fingerprint]
    if given and same and same[-1].id == given:  # the task that begins the run is tried again
        return same[-1]
    if not fresh and same and same[-1].state == "pushed" and _is_current(same[-1], past):
        return _cached(plan, runtime, same[-1], given)
    unfinished = (
        same and same[-1].state in ("running", "stopped", "interrupted", "failed") and past[-1].id == same[-1].id
    )
    mine = {} if given else {"pid": str(os.getpid())}
    if unfinished and not fresh and not given:
        run = replace(same[-1], state="running", reason="", facts={**same[-1].facts, **mine})
    else:
        run_id = given or name(plan.case.name)
        run = store.Run(run_id, plan.case.name, "running", "", fingerprint, known.of(plan) | mine)
    store.save(runtime.metadata, run)
    return run


def end(
    runtime: Runtime, run: store.Run, state: str, reason: str, facts: Mapping[str, str], tracker: recording.Tracker
) -> store.Run:
    """Writes down what came of a run, then has it tracked."""
    ended = replace(run, state=state, reason=reason, facts={**run.facts, **facts, "ended": store.now()})
    store.save(runtime.metadata, ended)
    # Saved as it is first: nothing that happens to the tracker can take a run's end away.
    tracked = replace(ended, facts={**ended.facts, **tracker.finish(ended)})
    store.save(runtime.metadata, tracked)
    return tracked


def _run(plan: Plan, runtime: Runtime, run: store.Run, fresh: bool, report: Report) -> store.Run:
    logs = Path(runtime.root, plan.case.name, "logs", run.id)
    tracker = recording.Tracker(runtime, logs / "tracking.log")
    try:
        with stderr_to(logs / "run.log"):
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, signal.default_int_handler)
            graph, runner, outcome = imported()
            ir = runner.compiled(graph.build(plan), plan.case.name, runtime, run.id, salt=run.id if fresh else "")
            with runtime.beam.beside(logs):
                progress = runner.run(ir, runtime, logs, report)
            state, reason, facts = outcome.of(runtime, run.id, progress, plan)
            facts["stages"] = json.dumps({name: asdict(one) for name, one in progress.items()})
    except KeyboardInterrupt:
        state, facts = "interrupted", {}
        reason = "Interrupted; the same command goes on from the last finished stage."
    except Exception as error:
        with (logs / "run.log").open("a") as log:
            traceback.print_exception(error, file=log)
        state, facts = "failed", {}
        reason = f"{type(error).__name__}: {error} The whole story is in {logs / 'run.log'}."
    return end(runtime, run, state, reason, facts, tracker)


def imported() -> tuple[Any, Any, Any]:
    """The modules that need TFX. Imports make millions of objects that stay: to collect them costs a tenth of the start."""
    gc.disable()
    from pipeline import graph, outcome
    from pipeline.local import runner

    gc.freeze()
    gc.enable()
    return graph, runner, outcome


@contextmanager
def stderr_to(path: Path) -> Iterator[None]:
    """Sends what libraries write to standard error to a log file; C++ code writes to the descriptor itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(2)
    with path.open("a") as log:
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _cached(plan: Plan, runtime: Runtime, done: store.Run, given: str) -> store.Run:
    run_id = given or name(plan.case.name)
    store.copy_as_cached(runtime.metadata, done.id, run_id)
    facts = {**done.facts, "started": store.now(), "ended": store.now(), "same_as": done.facts.get("same_as", done.id)}
    facts |= {"decision": plan.decision}
    run = replace(done, id=run_id, facts=facts)
    store.save(runtime.metadata, run)
    return run


def _is_current(run: store.Run, past: list[store.Run]) -> bool:
    """Whether the run's version is there and no later run pushed another: else the comparison has to be made anew."""
    pushed = [one for one in past if one.state == "pushed"]
    return pushed[-1].facts.get("pushed") == run.facts.get("pushed") and Path(run.facts["pushed"]).is_dir()


def name(case: str) -> str:
    return f"{case}-{datetime.now():%Y%m%d-%H%M%S-%f}"[:-3]
