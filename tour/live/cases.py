"""Current state of each case, from the stores of a home: last run, versions, drift monitor, last decision."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.catalog import CASES
from pipeline.home import Home
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.monitoring import decisions
from pipeline.online import rollouts
from pipeline.run import Run
from pipeline.runtime import Runtime
from serving import rollout
from tour.live.dag import Dag
from tour.live.dag import load_graph as graph_of


@dataclass(frozen=True)
class CaseState:
    """State of one case.

    Attributes:
        run: The last run; None before the first.
        graph: The graph of the last run.
        versions: Version numbers with their roles.
        rollout: The rollout in words.
        window: The last window that the monitor judged.
        decided: The last retraining decision in words.
        headline: Metric of the run that pushed the stable version.
        daily: Whether windows are days.
    """

    name: str
    title: str
    run: Run | None = None
    graph: Dag | None = None
    versions: tuple[tuple[int, str], ...] = ()
    rollout: str = ""
    window: dict[str, Any] | None = None
    incidents: tuple[dict[str, Any], ...] = ()
    decided: str = ""
    headline: str = ""
    daily: bool = False


def read_cases(home: Path) -> tuple[CaseState, ...]:
    runtime = local_runtime(home)
    every = store.runs(runtime.metadata)
    return tuple(_read_case(home, runtime, name, [run for run in every if run.case == name]) for name in CASES)


def _read_case(home: Path, runtime: Runtime, name: str, runs: list[Run]) -> CaseState:
    fields: dict[str, Any] = {"name": name, "title": CASES[name].title, "daily": bool(CASES[name].time)}
    folder = runtime.case(name).versions
    current = rollout.read(folder)
    if numbers := rollout.list_versions(folder):
        arms = {rollout.stable_version(folder, current): "stable", current.canary: "canary", current.shadow: "shadow"}
        roles = tuple((number, arms.get(number, "")) for number in numbers)
        fields |= {"versions": roles, "rollout": rollouts.describe_rollout(folder, current)}
    fields |= _read_monitor(Home(home).case(name).monitor_state)
    if not runs:
        return CaseState(**fields)
    earlier = [run for run in runs[:-1] if run.state != "running"]
    graph = graph_of(
        runtime.metadata, runs[-1], Home(home).case(name).logs / runs[-1].id, earlier[-1] if earlier else None
    )
    # Compare numbers rather than folders, since a home may have been moved.
    served = str(rollout.stable_version(folder, current))
    headline = next(
        (run.facts["headline"] for run in reversed(runs) if Path(run.facts.get("pushed", "")).name == served), ""
    )
    return CaseState(
        **fields, run=runs[-1], graph=graph, decided=decisions.describe_last_decision(runtime, name), headline=headline
    )


def _read_monitor(path: Path) -> dict[str, Any]:
    """Last window and incidents from the state of the gateway monitor; empty if it has judged no window."""
    try:
        state = json.loads(path.read_text())
        return {"window": state["windows"][-1], "incidents": tuple(state["judge"]["incidents"]["seen"])}
    except (OSError, ValueError, LookupError):
        return {}
