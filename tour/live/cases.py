"""What the stores of a home say of each case: its last run, its versions, what the monitor saw, what was decided."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.catalog import CASES
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.monitoring import decisions
from pipeline.online import rollouts
from pipeline.runtime import Runtime
from serving import rollout
from tour.live.dag import Dag
from tour.live.dag import of as graph_of


@dataclass(frozen=True)
class Case:
    """What is known of one case; ``run`` is its last run, None before the first; ``daily`` if its windows are days."""

    name: str
    title: str
    run: store.Run | None = None
    graph: Dag | None = None
    versions: tuple[tuple[int, str], ...] = ()
    rollout: str = ""
    window: dict[str, Any] | None = None
    incidents: tuple[dict[str, Any], ...] = ()
    decided: str = ""
    headline: str = ""
    daily: bool = False


def read(home: Path) -> tuple[Case, ...]:
    """Every case as its stores have it now."""
    runtime = local_runtime(home)
    every = store.runs(runtime.metadata)
    return tuple(_case(home, runtime, name, [run for run in every if run.case == name]) for name in CASES)


def _case(home: Path, runtime: Runtime, name: str, runs: list[store.Run]) -> Case:
    known: dict[str, Any] = {"name": name, "title": CASES[name].title, "daily": bool(CASES[name].time)}
    folder = Path(runtime.versions(name))
    now = rollout.read(folder)
    if there := rollout.versions(folder):
        arms = {rollout.stable(folder, now): "stable", now.canary: "canary", now.shadow: "shadow"}
        known |= {"versions": tuple((one, arms.get(one, "")) for one in there), "rollout": rollouts.told(folder, now)}
    known |= _drift(home / name / "online" / "monitor.json")
    if not runs:
        return Case(**known)
    earlier = [run for run in runs[:-1] if run.state != "running"]
    graph = graph_of(runtime.metadata, runs[-1], home / name / "logs" / runs[-1].id, earlier[-1] if earlier else None)
    # By number and not by folder: a home may have been moved.
    served = str(rollout.stable(folder, now))
    headline = next(
        (run.facts["headline"] for run in reversed(runs) if Path(run.facts.get("pushed", "")).name == served), ""
    )
    return Case(**known, run=runs[-1], graph=graph, decided=decisions.line(runtime, name), headline=headline)


def _drift(path: Path) -> dict[str, Any]:
    """What the monitor beside the gateway wrote; nothing where none has seen a window."""
    try:
        told = json.loads(path.read_text())
        return {"window": told["windows"][-1], "incidents": tuple(told["judge"]["incidents"]["seen"])}
    except (OSError, ValueError, LookupError):
        return {}
