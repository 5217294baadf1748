"""The command that watches a case for drift, and what it prints."""

import dataclasses
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from models.catalog import find
from models.retraining_policy import Policy
from models.use_case import UseCase
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataUnavailableError
from pipeline.monitoring import decisions, loop
from pipeline.monitoring.liveness import Heartbeat
from pipeline.progress import Progress, ProgressTable

# What may be over at the next look.
PASSING = (store.BusyError, loop.FailedError, loop.NothingServedError, MetadataUnavailableError)


def watch(
    case: str,
    home: Path,
    changes: Mapping[str, str],
    forever: bool,
    every: float,
    as_json: bool,
    listen: tuple[str, int] | None = None,
) -> int:
    """Looks once, or again and again; returns 1 if a retraining was due and did not end in a push.

    Args:
        case: Which.
        home: Folder of all state.
        changes: Of the case's policy.
        forever: Until it is interrupted.
        every: Seconds between two looks.
        as_json: A line of JSON a look at which something was found, in place of sentences.
        listen: Host and port for probes and metrics, if they are wanted.

    Raises:
        ValueError: for a case without a policy, nothing to watch, or a port that is taken.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    use_case = find(case)
    if use_case.policy is None:
        raise ValueError(
            f"{case} has no policy, so nothing would follow from its drift; its case.py says when to train again."
        )
    policy = use_case.policy.changed(changes)
    # A descriptor of its own: while stages run, standard error belongs to the log.
    console = Console(file=os.fdopen(os.dup(2), "w")) if as_json else Console()
    heart = Heartbeat(case)
    if listen:
        heart.serve(*listen)
    said: str | None = None
    while True:
        try:
            code = _once(use_case, policy, home, console, as_json, forever, heart)
            if not forever:
                return code
            said = None
        except PASSING as error:
            if not forever:
                raise
            if said != str(error):  # once, however long it lasts
                said = str(error)
                console.print(f"[yellow]{said}[/yellow]", highlight=False, soft_wrap=True)
            heart.beat()
        time.sleep(every)


def _once(
    case: UseCase, policy: Policy, home: Path, console: Console, as_json: bool, quiet: bool, heart: Heartbeat
) -> int:
    runtime = local_runtime(home)
    with ProgressTable(console) as stages:

        def report(progress: Mapping[str, Progress]) -> None:
            heart.beat()
            stages.report(progress)

        decided, run = loop.once(case, policy, runtime, report)
    heart.looked(decided.record["action"] if decided else "", run.state if run else "")
    if as_json and (decided or run or not quiet):
        print(json.dumps(_plain(decided, run)), flush=True)
    elif decided or run:
        _print(console, decided, run)
    elif not quiet:
        last = decisions.line(runtime, case.name) or "nothing was decided yet"
        console.print(f"no window is over since the last look; {last}", highlight=False, soft_wrap=True)
    return int(run is not None and run.state != "pushed")


def _plain(decided: decisions.Decided | None, run: store.Run | None) -> dict[str, Any]:
    record = {**decided.record, "page": str(decided.folder / decisions.PAGE)} if decided else None
    return {"decision": record, "run": dataclasses.asdict(run) if run else None}


def _print(console: Console, decided: decisions.Decided | None, run: store.Run | None) -> None:
    if decided:
        record = decided.record
        colour = {"none": "green", "watch": "yellow", "wait": "yellow"}.get(record["action"], "red")
        console.print(
            f"[{colour}]{record['action']}[/{colour}] after window {record['window']} of version {record['version']}"
        )
        for reason in record["reasons"]:
            console.print(f"  {reason}", highlight=False, markup=False, soft_wrap=True)
        console.print(f"  {decided.folder / decisions.PAGE}", highlight=False, markup=False, soft_wrap=True)
    if run:
        console.print(f"{run.state}: {run.reason} (run {run.id})", highlight=False, markup=False, soft_wrap=True)
