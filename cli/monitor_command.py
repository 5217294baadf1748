"""The command ``monitor``: check a use case for drift, once or repeatedly, and print the decisions."""

import dataclasses
import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from models.catalog import find_use_case
from models.retraining_policy import RetrainingPolicy
from models.use_case import UseCase
from pipeline.local.local_runtime import local_runtime
from pipeline.local.progress import Progress, ProgressTable
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataUnavailableError
from pipeline.monitoring import collected_spans, decisions, retraining_loop
from pipeline.monitoring.liveness import Heartbeat
from pipeline.run import Run
from pipeline.terminal import make_console, make_stderr_console
from serving.drift.profiles.windows import format_window

# Errors that may have gone at the next check.
TRANSIENT_ERRORS = (
    store.BusyError,
    retraining_loop.MonitoringFailedError,
    retraining_loop.NothingServedError,
    collected_spans.NoLabelsError,
    MetadataUnavailableError,
)


def run_monitor(
    case: str,
    home: Path,
    changes: Mapping[str, str],
    forever: bool,
    every: float,
    as_json: bool,
    listen: tuple[str, int] | None = None,
) -> int:
    """Check new windows once, or repeatedly; return 1 if a retraining was due and no model was pushed.

    Args:
        case: Name of the use case.
        home: Folder of all state.
        changes: Values that replace those of the use case's policy.
        forever: Repeat until interrupted.
        every: Seconds between two checks.
        as_json: Print one line of JSON instead of sentences for each check with a decision or a run.
        listen: Host and port of the probes and metrics; None for no server.

    Raises:
        ValueError: for a use case without a policy or a served version, or a port that is taken.
    """
    use_case = find_use_case(case)
    if use_case.policy is None:
        raise ValueError(
            f"{case} has no retraining policy, so its drift would have no effect; define one in its case.py."
        )
    policy = use_case.policy.with_changes(changes)
    console = make_stderr_console() if as_json else make_console()
    heartbeat = Heartbeat(case)
    if listen:
        heartbeat.serve(*listen)
    with handle_termination():
        return _check_repeatedly(use_case, policy, home, console, as_json, forever, every, heartbeat)


@contextmanager
def handle_termination() -> Iterator[None]:
    """Interrupt the block on SIGTERM: the first process of a container ignores every signal that it does not handle."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _check_repeatedly(
    use_case: UseCase,
    policy: RetrainingPolicy,
    home: Path,
    console: Console,
    as_json: bool,
    forever: bool,
    every: float,
    heartbeat: Heartbeat,
) -> int:
    last_error: str | None = None
    while True:
        try:
            code = _check_once(use_case, policy, home, console, as_json, forever, heartbeat)
            if not forever:
                return code
            last_error = None
        except TRANSIENT_ERRORS as error:
            if not forever:
                raise
            if last_error != str(error):  # a lasting error is printed once
                last_error = str(error)
                console.print(last_error, style="yellow", soft_wrap=True)
            heartbeat.beat()
        time.sleep(every)


def _check_once(
    case: UseCase,
    policy: RetrainingPolicy,
    home: Path,
    console: Console,
    as_json: bool,
    quiet: bool,
    heartbeat: Heartbeat,
) -> int:
    runtime = local_runtime(home)
    with ProgressTable(console) as stages:

        def report(progress: Mapping[str, Progress]) -> None:
            heartbeat.beat()
            stages.report(progress)

        decision, run = retraining_loop.run_monitor_once(case, policy, runtime, report)
    heartbeat.record_check(decision.record["action"] if decision else "", run.state if run else "")
    if as_json and (decision or run or not quiet):
        print(json.dumps(_to_json(decision, run)), flush=True)
    elif decision or run:
        _print(console, decision, run)
    elif not quiet:
        last = decisions.describe_last_decision(runtime, case.name) or "no decision yet"
        console.print(f"no window has ended since the last check; {last}", soft_wrap=True)
    return int(run is not None and run.state != "pushed")


def _to_json(decision: decisions.StoredDecision | None, run: Run | None) -> dict[str, Any]:
    record = {**decision.record, "page": str(decision.folder / decisions.PAGE)} if decision else None
    return {"decision": record, "run": dataclasses.asdict(run) if run else None}


def _print(console: Console, decision: decisions.StoredDecision | None, run: Run | None) -> None:
    if decision:
        record = decision.record
        window = format_window(record["window"], bool(find_use_case(record["case"]).time))
        colour = {"none": "green", "watch": "yellow", "wait": "yellow"}.get(record["action"], "red")
        console.print(Text.assemble((record["action"], colour), f" after {window} of version {record['version']}"))
        for reason in record["reasons"]:
            console.print(f"  {reason}", soft_wrap=True)
        console.print(f"  {decision.folder / decisions.PAGE}", soft_wrap=True)
    if run:
        console.print(f"{run.state}: {run.reason} (run {run.id})", soft_wrap=True)
