"""The command ``status``: what is served, and how the last run ended."""

import dataclasses
import json
from pathlib import Path

from models.catalog import CASES, find_use_case
from pipeline.home import Home
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.monitoring import decisions
from pipeline.run import Run
from pipeline.terminal import make_console
from serving.drift.profiles.windows import format_window


def show(case: str | None, home: Path, as_json: bool) -> None:
    """Print the served version and the outcome of the last run of each use case."""
    names = list(CASES) if case is None else [find_use_case(case).name]
    path = Home(home).metadata
    runs_by_case = {name: store.runs(path, name) for name in names}
    if as_json:
        print(
            json.dumps(
                {name: [dataclasses.asdict(run) for run in runs[-5:]] for name, runs in runs_by_case.items()}, indent=1
            )
        )
        return
    console = make_console()
    for name, runs in runs_by_case.items():
        console.print(name, style="bold")
        if not runs:
            console.print(f"  no run yet; start one with `showcase run {name}`")
            continue
        console.print(f"  served    {_describe_served_version(home, name, runs)}", soft_wrap=True)
        console.print(f"  answers   {_describe_rollout(home, name)}", soft_wrap=True)
        for heading, line in (
            ("drift", _describe_last_window(home, name)),
            ("decided", decisions.describe_last_decision(local_runtime(home), name)),
        ):
            if line:
                console.print(f"  {heading:9} {line}", soft_wrap=True)
        last = f"{runs[-1].id}: {runs[-1].state}: {runs[-1].reason}"
        console.print(f"  last run  {last}", soft_wrap=True)


def _describe_rollout(home: Path, case: str) -> str:
    """Return the versions of the rollout and the address of the server."""
    from pipeline.online import rollouts
    from serving import rollout

    folder = Home(home).case(case).versions
    if not rollout.list_versions(folder):
        return "nothing"
    server = rollouts.find_running_server(home)
    where = (
        f"at {server['host']}:{server['gateway'] or server['rest'] or server['grpc']}"
        if server
        else "no server is running"
    )
    return f"{rollouts.describe_rollout(folder, rollout.read(folder))}; {where}"


def _describe_last_window(home: Path, case: str) -> str:
    """Return what the gateway's monitor found in its last window; empty if it has not processed one."""
    try:
        state = json.loads(Home(home).case(case).monitor_state.read_text())
    except (OSError, ValueError):
        return ""
    window, daily = state["windows"][-1], bool(find_use_case(case).time)
    findings = [*window["moved"], *(f"{fault['column']}: {fault['kind']}" for fault in window["faults"])]
    open_incidents = "; ".join(
        f"{incident['kind']} incident {incident['id']} open since {format_window(incident['opened'], daily)}"
        for incident in state["judge"]["incidents"]["seen"]
        if incident["state"] == "open"
    )
    verdict = window["skipped"] or ", ".join(findings) or "no drift"
    name = format_window(window["window"], daily)
    return f"{name}, {window['rows']} rows: {verdict}; {open_incidents or 'no incident is open'}"


def _describe_served_version(home: Path, case: str, runs: list[Run]) -> str:
    """Return the folder of the stable version and the metric of the run that pushed it."""
    from pipeline.online import rollouts

    version = rollouts.served_version(home, case)
    if version is None:
        return "nothing"
    pushed = [run.facts["headline"] for run in runs if run.facts.get("pushed") == str(version)]
    return f"{version} · {pushed[-1] if pushed else 'pushed by a run that was interrupted before its end'}"
