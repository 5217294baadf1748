"""Lineage of a prediction back to its data, and of a span of data forward to predictions.

The prediction log records the version that answered, a run's record the version that it pushed, and the metadata store
the inputs of its stages. Missing records are reported as missing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.home import Home
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.run import Run
from tour import stations, trace
from tour.logbook import LoggedPrediction
from tour.stations import LineageStep, Source, artifact_name
from tour.trace import Artifact

PUSHED = "pushed_model"


@dataclass(frozen=True)
class Trail:
    """Steps in order, the edges between them by name, and the page of each."""

    steps: tuple[LineageStep, ...]
    edges: frozenset[tuple[str, str]] = frozenset()
    links: Mapping[str, str] = field(default_factory=dict)


def trace_back(home: Path, case: str, logged: LoggedPrediction) -> Trail:
    """From a logged prediction to its version, run, code, artifacts and spans."""
    runtime = local_runtime(home)
    version = LineageStep(
        f"version {logged.version}", "The version that answered", *stations.version_facts(runtime, case, logged.version)
    )
    run = find_pushing_run(store.runs(runtime.metadata, case), logged.version)
    true_label = stations.label_text(home, case, logged)
    steps = [LineageStep("prediction", "The prediction", stations.prediction_facts(logged, true_label)), version]
    edges = {(version.name, "prediction")}
    if run is None:
        reason = (
            f"No run in the store says that it pushed version {logged.version} of {case}; its record was deleted or is "
            "incomplete."
        )
        return Trail(
            (*steps, LineageStep("run", "The run", missing=reason)), frozenset(edges | {("run", version.name)})
        )
    steps += [stations.run_step(run), stations.code_step(run), stations.data_step(run)]
    edges |= {("run", version.name), ("code", "run"), ("spans", "run")}
    if run.decision:
        steps.append(stations.decision_step(runtime, case, run.facts["decision"]))
        edges.add(("decision", "run"))
    artifacts, artifact_edges, links = ancestors(runtime.metadata, case, run.id)
    if not artifacts:
        steps.append(LineageStep("artifacts", "Its artifacts", missing="The store has no artifacts of this run."))
        return Trail(tuple(steps), frozenset(edges))
    steps.append(
        LineageStep("artifacts", "Its artifacts", tuple(stations.artifact_fact(artifact) for artifact in artifacts))
    )
    names = {artifact_name(artifact) for artifact in artifacts}
    edges = {pair for pair in edges if "run" not in pair} | artifact_edges
    edges |= {("spans", name) for name in names if name.startswith("Examples")}
    trained = {name for name in names if name.startswith("Model ") and "/Resolver?" not in links[name]}
    edges |= {("code", name) for name in trained}
    edges |= {(name, version.name) for name in names if name.startswith("PushedModel")}
    edges |= {("decision", "spans")} if run.decision else set()
    links = links | {"prediction": "#prediction", "code": "#code", "spans": "#spans", "decision": "#decision"}
    return Trail(tuple(steps), frozenset(edges), links | {version.name: "#" + version.name.replace(" ", "-")})


def trace_forward(home: Path, case: str, source: Source, span: int, counts: Mapping[int, int]) -> Trail:
    """From a span to the runs that were trained on it, their versions, and the predictions of those versions.

    Args:
        home: Folder of the home.
        case: Name of the use case.
        source: Folder of data that contains the span.
        span: Number of the span.
        counts: Number of logged predictions by version.
    """
    runtime = local_runtime(home)
    all_runs = store.runs(runtime.metadata, case)
    runs = [run for run in all_runs if run.facts.get("source") == source.folder and span in stations.run_spans(run)]
    start = LineageStep(
        f"span {span}", f"Span {span}", stations.span_facts(source, span), stations.missing_span(source, span)
    )
    if not runs:
        return Trail((start, LineageStep("runs", "Runs", missing="No run in the store has learnt from this span.")))
    steps, edges, links = [start], set(), {start.name: f"#span-{span}"}
    for run in runs:
        run_name = f"run {run.id.removeprefix(case + '-')}"
        steps.append(stations.run_step(run, run_name))
        edges.add((start.name, run_name))
        links[run_name] = "#" + run_name.replace(" ", "-")
        number = run.version
        if number is None or run.state != "pushed" or find_pushing_run(all_runs, number) is not run:
            continue
        name = f"version {number}"
        answered = counts.get(number, 0)
        facts, missing = stations.version_facts(runtime, case, number)
        steps.append(
            LineageStep(name, f"Version {number}", (*facts, ("logged predictions", f"{answered:,}", "")), missing)
        )
        edges |= {(run_name, name), (name, f"{answered:,} predictions")} if answered else {(run_name, name)}
        links |= {name: "#" + name.replace(" ", "-")}
    return Trail(tuple(steps), frozenset(edges), links)


def read_sources(home: Path, case: str) -> list[Source]:
    """Every folder of data that a run of the case was trained on, with the spans that runs read from it."""
    spans_of_folder: dict[str, set[int]] = {}
    for run in Home(home).runs(case):
        if run.facts.get("source"):
            spans_of_folder.setdefault(run.source, set()).update(stations.run_spans(run))
    return [
        Source(number, folder, tuple(sorted(spans))) for number, (folder, spans) in enumerate(spans_of_folder.items())
    ]


def find_pushing_run(runs: Iterable[Run], version: int) -> Run | None:
    """The run whose record says that it pushed the version; the last of several."""
    candidates = [run for run in runs if run.state == "pushed" and run.version == version]
    uncached = [run for run in candidates if not run.same_as]
    preferred = uncached or candidates
    return preferred[-1] if preferred else None


def ancestors(
    metadata: MetadataAddress, case: str, run_id: str
) -> tuple[list[Artifact], set[tuple[str, str]], dict[str, str]]:
    """Inputs of a run's pushed model within the run: artifacts, edges between their names, and the page of each."""
    outputs = {
        out.id: (execution, out) for execution in trace.executions(metadata, run_id) for out in execution.outputs
    }
    pending = [out.id for _, out in outputs.values() if out.key == PUSHED]
    visited: dict[int, Artifact] = {}
    edges: set[tuple[str, str]] = set()
    links = {}
    while pending:
        execution, artifact = outputs[pending.pop()]
        if artifact.id in visited:
            continue
        visited[artifact.id] = artifact
        links[artifact_name(artifact)] = f"/stages/{case}/{execution.node}?run={run_id}"
        for source in execution.inputs:
            if source.id in outputs:
                edges.add((artifact_name(source), artifact_name(artifact)))
                pending.append(source.id)
    return sorted(visited.values(), key=lambda artifact: artifact.id), edges, links
