"""The graph of a run as the metadata store has it at this moment, and where each stage stands in a drawing of it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress

# Who waits for whom without taking an artifact from it, which the store does not record.
WAITS = (("DataGate", "Tuner"), ("DataGate", "Trainer"), ("FitGate", "Evaluator"), ("Resolver", "Evaluator"))
SWEEPS = 4
Edges = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Stage:
    """A stage of a run.

    Attributes:
        name: Its id in the graph.
        state: waiting, running, done, cached, refused, failed, held (it ran and held back what an earlier stage refused), or
            "not reached" in a run that is over.
        seconds: From its first to its last word in the store; 0 for one that has not begun.
        message: What went wrong, or how far it is.
        artifacts: What it made, by type.
        column, row: Its place, both from 0; a row may be a half.
    """

    name: str
    state: str
    seconds: float = 0.0
    message: str = ""
    artifacts: tuple[str, ...] = ()
    column: int = 0
    row: float = 0.0


@dataclass(frozen=True)
class Dag:
    """Stages, and which follows which; what follows from other edges is left out.

    Attributes:
        stages: By column and row.
        edges: Names of two stages.
        ways: Of an edge that passes columns, the row in each of them, so that it runs behind no stage.
    """

    stages: tuple[Stage, ...]
    edges: tuple[tuple[str, str], ...]
    ways: tuple[tuple[float, ...], ...] = ()

    @property
    def columns(self) -> int:
        """How many columns the drawing has."""
        return max((one.column for one in self.stages), default=-1) + 1

    @property
    def rows(self) -> float:
        """How many rows the drawing has."""
        return max([one.row for one in self.stages] + [row for way in self.ways for row in way], default=-1) + 1

    def stage(self, name: str) -> Stage:
        """The stage of that name."""
        return next(one for one in self.stages if one.name == name)


def of(address: MetadataAddress, run: store.Run, logs: Path, before: store.Run | None = None) -> Dag:
    """A run's graph.

    Args:
        address: Of the metadata store.
        run: The run.
        logs: Folder of its stages' logs.
        before: An earlier run of the case, which says what stages are still to come.
    """
    seconds, states, artifacts, edges = _recorded(address, run.id)
    told = json.loads(run.facts.get("stages", "{}"))
    told = {} if run.facts.get("same_as") else told
    names, later = dict.fromkeys([*states, *told]), "waiting" if run.state == "running" else "not reached"
    if before is not None:
        _, known, _, more = _recorded(address, before.id)
        names, edges = names | dict.fromkeys(known), edges | more
    found = []
    for name in names:
        state, message = states.get(name, later), ""
        outcome = told.get(name) or _outcome(logs / f"{name}.json")
        if outcome.get("state") in ("refused", "failed"):
            state, message = outcome["state"], outcome["message"]
        if state == "running":
            message = _epoch(logs / f"{name}.log")
        spent = told.get(name, {}).get("seconds", seconds.get(name, 0.0))
        found.append(Stage(name, state, spent, message, tuple(artifacts.get(name, ()))))
    edges |= {pair for pair in WAITS if pair[0] in names and pair[1] in names}
    return placed(_judged(found, edges, run), edges)


def _judged(stages: Iterable[Stage], edges: Iterable[tuple[str, str]], run: store.Run) -> Iterator[Stage]:
    """The stages with what the run's verdict says: a stage may end well by finding that the model is not good enough."""
    name, colon, message = run.reason.partition(": ")
    refused = name if run.state == "refused" and colon else ""
    held = {b for a, b in edges if a == refused}
    for one in stages:
        if one.name == refused:
            yield replace(one, state="refused", message=message)
        else:
            yield replace(one, state="held") if one.name in held and one.state in ("done", "cached") else one


def placed(stages: Iterable[Stage], edges: Iterable[tuple[str, str]]) -> Dag:
    """Every stage a column to the right of all that it waits for, near the middle of them, the edges reduced."""
    by_name = {one.name: one for one in stages}
    kept = reduced({(a, b) for a, b in edges if a in by_name and b in by_name and a != b})
    column = dict.fromkeys(by_name, 0)
    for _ in by_name:  # each pass settles at least one more stage of the longest path
        for a, b in kept:
            column[b] = min(max(column[b], column[a] + 1), len(by_name) - 1)
    for name in set(by_name) - {b for _, b in kept}:  # what waits for nothing stands beside what needs it first
        column[name] = min((column[b] - 1 for a, b in kept if a == name), default=0)
    edges, passing = tuple(sorted(kept)), {}
    for a, b in edges:
        passing[a, b] = [f"{a} {b} {at}" for at in range(column[a] + 1, column[b])]
    lanes = column | {name: column[a] + 1 + at for (a, _), way in passing.items() for at, name in enumerate(way)}
    row = _rows(lanes, [pair for (a, b), way in passing.items() for pair in pairwise([a, *way, b])])
    done = (replace(one, column=column[name], row=row[name]) for name, one in by_name.items())
    ways = tuple(tuple(row[name] for name in passing[edge]) for edge in edges)
    return Dag(tuple(sorted(done, key=lambda one: (one.column, one.row))), edges, ways)


def reduced(edges: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """The edges without those between stages that a longer way joins too."""
    after: dict[str, set[str]] = {}
    for a, b in edges:
        after.setdefault(a, set()).add(b)

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            fresh = after.get(waiting.pop(), set()) - found
            found |= fresh
            waiting += fresh
        return found

    far = {name: reached(name) for name in after}
    return {(a, b) for a in after for b in after[a] if not any(b in far.get(c, ()) for c in after[a] if c != b)}


def _rows(column: Mapping[str, int], edges: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Rows by the middle of a stage's neighbours, swept to and fro, each column centred."""
    lanes = [[name for name in column if column[name] == at] for at in sorted(set(column.values()))]
    tallest = max(map(len, lanes), default=0)
    near: dict[str, list[str]] = {name: [] for name in column}
    for a, b in edges:
        near[a].append(b)
        near[b].append(a)
    row: dict[str, float] = {}

    def settle(lane: list[str]) -> None:
        row.update({name: (tallest - len(lane)) / 2 + place for place, name in enumerate(lane)})

    def middle(name: str) -> float:
        rows = [row[one] for one in near[name]]
        return sum(rows) / len(rows) if rows else row[name]

    for lane in lanes:
        settle(lane)
    for sweep in range(SWEEPS):
        for lane in lanes if sweep % 2 == 0 else lanes[::-1]:
            lane.sort(key=middle)
            settle(lane)
    return row


def _recorded(
    address: MetadataAddress, run_id: str
) -> tuple[dict[str, float], dict[str, str], dict[str, list[str]], Edges]:
    """Of every stage seconds, state and artifacts, and which stage took what another made."""
    with store.open_for_reading(address) as held:
        context = held.get_context_by_type_and_name("pipeline_run", run_id)
        executions = sorted(held.get_executions_by_context(context.id), key=lambda one: one.id) if context else []
        kinds = {kind.id: kind.name.rsplit(".", 1)[-1] for kind in held.get_execution_types()}
        types = {kind.id: kind.name for kind in held.get_artifact_types()}
        events = held.get_events_by_execution_ids([one.id for one in executions]) if executions else []
        made = held.get_artifacts_by_id(sorted({event.artifact_id for event in events})) if events else []
    names = {one.id: kinds[one.type_id] for one in executions}
    states = {names[one.id]: store.STATES.get(one.last_known_state, "running") for one in executions}
    seconds = {
        names[one.id]: (one.last_update_time_since_epoch - one.create_time_since_epoch) / 1000
        for one in executions
        if one.last_known_state == mlmd.Execution.COMPLETE
    }
    kind_of = {one.id: types[one.type_id] for one in made}
    outputs = [event for event in events if event.type == mlmd.Event.OUTPUT]
    maker = {event.artifact_id: names[event.execution_id] for event in outputs}
    artifacts: dict[str, list[str]] = {}
    for event in outputs:
        artifacts.setdefault(names[event.execution_id], []).append(kind_of[event.artifact_id])
    taken = ((maker.get(one.artifact_id), names[one.execution_id]) for one in events if one.type == mlmd.Event.INPUT)
    return seconds, states, artifacts, frozenset((a, b) for a, b in taken if a)


def _outcome(path: Path) -> dict[str, str]:
    """What a stage left when it ended; nothing for one that has not."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def _epoch(log: Path) -> str:
    """The last line of a stage's log if it tells how far training is."""
    try:
        with log.open("rb") as lines:
            lines.seek(max(0, log.stat().st_size - 400))
            last = lines.read().decode(errors="replace").strip().rpartition("\n")[2]
    except OSError:
        return ""
    return last if last.startswith("epoch ") else ""
