"""What is served, and what came of the last run."""

import dataclasses
import json
from pathlib import Path

from rich.console import Console

from models.catalog import CASES, find
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.monitoring import decisions


def show(case: str | None, home: Path, as_json: bool) -> None:
    """Prints, for each case, the served version and what came of the last run."""
    names = [find(case).name] if case else list(CASES)
    path = local_runtime(home).metadata
    found = {name: store.runs(path, name) for name in names}
    if as_json:
        print(
            json.dumps({name: [dataclasses.asdict(run) for run in runs[-5:]] for name, runs in found.items()}, indent=1)
        )
        return
    console = Console()
    for name, runs in found.items():
        console.print(f"[bold]{name}[/bold]")
        if not runs:
            console.print(f"  no run yet; `showcase run {name}` makes the first")
            continue
        console.print(f"  served    {_served(home, name, runs)}", highlight=False, soft_wrap=True)
        console.print(f"  answers   {_answering(home, name)}", highlight=False, soft_wrap=True)
        for word, line in (("drift", _watched(home, name)), ("decided", decisions.line(local_runtime(home), name))):
            if line:
                console.print(f"  {word:9} {line}", highlight=False, markup=False, soft_wrap=True)
        last = f"{runs[-1].id}: {runs[-1].state}: {runs[-1].reason}"
        console.print(f"  last run  {last}", highlight=False, soft_wrap=True)


def _answering(home: Path, case: str) -> str:
    """The versions that the rollout names, and where they are served."""
    from pipeline.online import rollouts
    from serving import rollout

    folder = Path(local_runtime(home).versions(case))
    if not rollout.versions(folder):
        return "nothing"
    there = rollouts.running(home)
    where = (
        f"at {there['host']}:{there['gateway'] or there['rest'] or there['grpc']}" if there else "no server is running"
    )
    return f"{rollouts.told(folder, rollout.read(folder))}; {where}"


def _watched(home: Path, case: str) -> str:
    """What the monitor beside the gateway saw last; empty where none has seen a window."""
    try:
        told = json.loads((home / case / "online" / "monitor.json").read_text())
    except (OSError, ValueError):
        return ""
    last = told["windows"][-1]
    found = [*last["moved"], *(f"{one['column']}: {one['kind']}" for one in last["faults"])]
    seen = [one for one in told["judge"]["incidents"]["seen"] if one["state"] == "open"]
    since = "; ".join(f"{one['kind']} incident {one['id']} open since window {one['opened']}" for one in seen)
    said = last["skipped"] or ", ".join(found) or "nothing moved"
    return f"window {last['window']}, {last['rows']} rows: {said}; {since or 'no incident is open'}"


def _served(home: Path, case: str, runs: list[store.Run]) -> str:
    """The stable version's folder and the metric of the run that pushed it."""
    from pipeline.online import rollouts

    version = rollouts.served_version(home, case)
    if version is None:
        return "nothing"
    pushed = [run.facts["headline"] for run in runs if run.facts.get("pushed") == str(version)]
    return f"{version} · {pushed[-1] if pushed else 'by a run that was stopped before its end'}"
