"""The graph of a run as the metadata store currently has it, and its layout for a drawing."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from pipeline.metadata.store_address import MetadataAddress
from pipeline.run import Run
from tour import trace
from tour.trace import Execution

# Dependencies without an artifact, which the store does not record: (upstream, downstream).
ORDER_EDGES = (("DataGate", "Tuner"), ("DataGate", "Trainer"), ("FitGate", "Evaluator"), ("Resolver", "Evaluator"))
SWEEPS = 4  # passes of the barycentre heuristic


@dataclass(frozen=True)
class StageStatus:
    """A stage of a run.

    Attributes:
        name: Id of the node.
        state: waiting, running, done, cached, refused, failed, held (it ran, but its output is held back because an
            earlier stage refused), or "not reached" in a run that has ended.
        seconds: From its first to its last update in the store; 0 if it has not begun.
        message: Error, or progress of the training.
        artifacts: Types of its outputs.
        column, row: Position in the drawing, from 0; a row may be a half.
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
    """Stages and their dependencies, transitively reduced.

    Attributes:
        stages: Sorted by column and row.
        edges: Pairs of stage names, (upstream, downstream).
        ways: For each edge, its row in every column that it passes, so that it does not run behind a stage.
    """

    stages: tuple[StageStatus, ...]
    edges: tuple[tuple[str, str], ...]
    ways: tuple[tuple[float, ...], ...] = ()

    @property
    def columns(self) -> int:
        return max((stage.column for stage in self.stages), default=-1) + 1

    @property
    def rows(self) -> float:
        return max([stage.row for stage in self.stages] + [row for way in self.ways for row in way], default=-1) + 1

    def stage(self, name: str) -> StageStatus:
        return next(stage for stage in self.stages if stage.name == name)


def load_graph(address: MetadataAddress, run: Run, logs: Path, before: Run | None = None) -> Dag:
    """Read the graph of a run.

    Args:
        address: Address of the metadata store.
        run: The run.
        logs: Folder with the logs of its stages.
        before: An earlier run of the case, which supplies the stages that have not begun yet.
    """
    ran = {execution.node: execution for execution in trace.executions(address, run.id)}
    edges, outcomes = _find_edges(ran.values()), {} if run.same_as else run.stages
    names, later = dict.fromkeys([*ran, *outcomes]), "waiting" if run.state == "running" else "not reached"
    if before is not None:
        earlier = trace.executions(address, before.id)
        names, edges = names | dict.fromkeys(execution.node for execution in earlier), edges | _find_edges(earlier)
    stages = []
    for name in names:
        execution = ran.get(name) or Execution(0, name, later, (), ())
        state, message = execution.state, ""
        outcome = outcomes.get(name) or _read_outcome(logs / f"{name}.json")
        if outcome.get("state") in ("refused", "failed"):
            state, message = outcome["state"], outcome["message"]
        if state == "running":
            message = _read_progress(logs / f"{name}.log")
        spent = outcomes.get(name, {}).get("seconds", execution.seconds if execution.state == "done" else 0.0)
        stages.append(StageStatus(name, state, spent, message, tuple(output.type for output in execution.outputs)))
    edges |= {pair for pair in ORDER_EDGES if pair[0] in names and pair[1] in names}
    return lay_out(_apply_verdict(stages, edges, run), edges)


def _apply_verdict(stages: Iterable[StageStatus], edges: Iterable[tuple[str, str]], run: Run) -> Iterator[StageStatus]:
    """Apply the run's verdict to its stages: a stage can succeed with the result that the model is not good enough."""
    name, colon, message = run.reason.partition(": ")
    refused = name if run.state == "refused" and colon else ""
    held = {b for a, b in edges if a == refused}
    for stage in stages:
        if stage.name == refused:
            yield replace(stage, state="refused", message=message)
        else:
            yield replace(stage, state="held") if stage.name in held and stage.state in ("done", "cached") else stage


def lay_out(stages: Iterable[StageStatus], edges: Iterable[tuple[str, str]]) -> Dag:
    """Lay out the stages and reduce the edges.

    A stage is to the right of everything that it depends on, in a row near the mean of its neighbours.
    """
    by_name = {stage.name: stage for stage in stages}
    direct = reduce_edges({(a, b) for a, b in edges if a in by_name and b in by_name and a != b})
    column = dict.fromkeys(by_name, 0)
    for _ in by_name:  # each pass settles at least one more stage of the longest path
        for a, b in direct:
            column[b] = min(max(column[b], column[a] + 1), len(by_name) - 1)
    for name in set(by_name) - {b for _, b in direct}:
        # A stage without inputs is placed one column left of its first consumer.
        column[name] = min((column[b] - 1 for a, b in direct if a == name), default=0)
    edges, passing = tuple(sorted(direct)), {}
    for a, b in edges:
        passing[a, b] = [f"{a} {b} {at}" for at in range(column[a] + 1, column[b])]
    lanes = column | {name: column[a] + 1 + at for (a, _), way in passing.items() for at, name in enumerate(way)}
    row = _assign_rows(lanes, [pair for (a, b), way in passing.items() for pair in pairwise([a, *way, b])])
    positioned = (replace(stage, column=column[name], row=row[name]) for name, stage in by_name.items())
    ways = tuple(tuple(row[name] for name in passing[edge]) for edge in edges)
    return Dag(tuple(sorted(positioned, key=lambda stage: (stage.column, stage.row))), edges, ways)


def reduce_edges(edges: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Transitive reduction: the edges without those between stages that a longer path connects."""
    successors: dict[str, set[str]] = {}
    for a, b in edges:
        successors.setdefault(a, set()).add(b)

    def find_descendants(start: str) -> set[str]:
        visited: set[str] = set()
        pending = [start]
        while pending:
            new = successors.get(pending.pop(), set()) - visited
            visited |= new
            pending += new
        return visited

    descendants = {name: find_descendants(name) for name in successors}
    return {
        (a, b)
        for a in successors
        for b in successors[a]
        if not any(b in descendants.get(c, ()) for c in successors[a] if c != b)
    }


def _assign_rows(column: Mapping[str, int], edges: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Rows by the barycentre heuristic, sweeping in both directions, each column centred."""
    lanes = [[name for name in column if column[name] == at] for at in sorted(set(column.values()))]
    tallest = max(map(len, lanes), default=0)
    neighbours: dict[str, list[str]] = {name: [] for name in column}
    for a, b in edges:
        neighbours[a].append(b)
        neighbours[b].append(a)
    row: dict[str, float] = {}

    def settle(lane: list[str]) -> None:
        row.update({name: (tallest - len(lane)) / 2 + index for index, name in enumerate(lane)})

    def middle(name: str) -> float:
        rows = [row[neighbour] for neighbour in neighbours[name]]
        return sum(rows) / len(rows) if rows else row[name]

    for lane in lanes:
        settle(lane)
    for sweep in range(SWEEPS):
        for lane in lanes if sweep % 2 == 0 else lanes[::-1]:
            lane.sort(key=middle)
            settle(lane)
    return row


def _find_edges(ran: Iterable[Execution]) -> set[tuple[str, str]]:
    """Pairs of a stage and one that took an artifact from it."""
    producers = {artifact.id: execution.node for execution in ran for artifact in execution.outputs}
    taken = ((producers.get(artifact.id), execution.node) for execution in ran for artifact in execution.inputs)
    return {(producer, taker) for producer, taker in taken if producer}


def _read_outcome(path: Path) -> dict[str, str]:
    """Outcome that a stage wrote when it ended; empty if it has not ended."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def _read_progress(log: Path) -> str:
    """Last line of a stage's log if it reports the progress of the training."""
    try:
        with log.open("rb") as lines:
            lines.seek(max(0, log.stat().st_size - 400))
            last = lines.read().decode(errors="replace").strip().rpartition("\n")[2]
    except OSError:
        return ""
    return last if last.startswith("epoch ") else ""
