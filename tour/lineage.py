"""From a prediction back to everything that it came of, and from a span of data forward to everything that came of it.

All of it is looked up: the prediction log says which version answered, the run's record which run pushed that version, the
metadata store what the run took. What cannot be found is told as missing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from tour import stations, trace
from tour.logbook import Logged
from tour.stations import Source, Step, named
from tour.trace import Artifact

PUSHED = "pushed_model"


@dataclass(frozen=True)
class Trail:
    """Stations in order, and which came of which, by their names."""

    steps: tuple[Step, ...]
    edges: frozenset[tuple[str, str]] = frozenset()
    links: Mapping[str, str] = field(default_factory=dict)


def back(home: Path, case: str, one: Logged) -> Trail:
    """From a logged prediction to its version, run, code, artifacts and spans."""
    runtime = local_runtime(home)
    version = Step(f"version {one.version}", "The version that answered", *stations.version(runtime, case, one.version))
    run = pushed_by(store.runs(runtime.metadata, case), one.version)
    told = stations.label(home, case, one)
    steps = [Step("prediction", "The prediction", stations.prediction(one, told)), version]
    edges = {(version.name, "prediction")}
    if run is None:
        why = f"No run in the store says that it pushed version {one.version} of {case}: its record was removed or never ended."
        return Trail((*steps, Step("run", "The run", missing=why)), frozenset(edges | {("run", version.name)}))
    steps += [stations.run(run), stations.code(run), stations.data(run)]
    edges |= {("run", version.name), ("code", "run"), ("spans", "run")}
    if run.facts.get("decision"):
        steps.append(stations.decided(runtime, case, run.facts["decision"]))
        edges.add(("decision", "run"))
    artifacts, between, links = ancestors(runtime.metadata, case, run.id)
    if not artifacts:
        steps.append(Step("artifacts", "Its artifacts", missing="The store has no artifacts of that run."))
        return Trail(tuple(steps), frozenset(edges))
    steps.append(Step("artifacts", "Its artifacts", tuple(stations.artifact(one) for one in artifacts)))
    names = {named(one) for one in artifacts}
    edges = {pair for pair in edges if "run" not in pair} | between
    edges |= {("spans", name) for name in names if name.startswith("Examples")}
    trained = {name for name in names if name.startswith("Model ") and "/Resolver?" not in links[name]}
    edges |= {("code", name) for name in trained}
    edges |= {(name, version.name) for name in names if name.startswith("PushedModel")}
    edges |= {("decision", "spans")} if run.facts.get("decision") else set()
    links = links | {"prediction": "#prediction", "code": "#code", "spans": "#spans", "decision": "#decision"}
    return Trail(tuple(steps), frozenset(edges), links | {version.name: "#" + version.name.replace(" ", "-")})


def forward(home: Path, case: str, source: Source, span: int, counts: Mapping[int, int]) -> Trail:
    """From a span to the runs that learnt from it, their versions, and the predictions that those answered.

    Args:
        counts: Logged predictions by version.
    """
    runtime = local_runtime(home)
    every = store.runs(runtime.metadata, case)
    runs = [run for run in every if run.facts.get("source") == source.folder and span in stations.window(run)]
    begin = Step(f"span {span}", f"Span {span}", stations.of_span(source, span), stations.gone(source, span))
    if not runs:
        return Trail((begin, Step("runs", "Runs", missing="No run in the store has learnt from this span.")))
    steps, edges, links = [begin], set(), {begin.name: f"#span-{span}"}
    for run in runs:
        own = f"run {run.id.removeprefix(case + '-')}"
        steps.append(stations.run(run, own))
        edges.add((begin.name, own))
        links[own] = "#" + own.replace(" ", "-")
        number = int(run.facts["version"]) if run.facts.get("version", "").isdigit() else None
        if number is None or run.state != "pushed" or pushed_by(every, number) is not run:
            continue
        name = f"version {number}"
        answered = counts.get(number, 0)
        facts, missing = stations.version(runtime, case, number)
        steps.append(Step(name, f"Version {number}", (*facts, ("logged predictions", f"{answered:,}", "")), missing))
        edges |= {(own, name), (name, f"{answered:,} predictions")} if answered else {(own, name)}
        links |= {name: "#" + name.replace(" ", "-")}
    return Trail(tuple(steps), frozenset(edges), links)


def sources(home: Path, case: str) -> list[Source]:
    """Every folder of data that a run of the case has learnt from, with the spans that runs have seen of it."""
    seen: dict[str, set[int]] = {}
    for run in store.runs(local_runtime(home).metadata, case):
        if run.facts.get("source"):
            seen.setdefault(run.facts["source"], set()).update(stations.window(run))
    return [Source(number, folder, tuple(sorted(found))) for number, (folder, found) in enumerate(seen.items())]


def pushed_by(runs: Iterable[store.Run], version: int) -> store.Run | None:
    """The run whose record says that it pushed the version; the last one, should there be several."""
    mine = [run for run in runs if run.state == "pushed" and run.facts.get("version") == str(version)]
    own = [run for run in mine if not run.facts.get("same_as")]
    best = own or mine
    return best[-1] if best else None


def ancestors(
    metadata: MetadataAddress, case: str, run_id: str
) -> tuple[list[Artifact], set[tuple[str, str]], dict[str, str]]:
    """What a run's pushed model came of within the run: artifacts, edges between them by name, and where each is shown."""
    made = {out.id: (execution, out) for execution in trace.executions(metadata, run_id) for out in execution.outputs}
    waiting = [out.id for _, out in made.values() if out.key == PUSHED]
    seen: dict[int, Artifact] = {}
    edges: set[tuple[str, str]] = set()
    links = {}
    while waiting:
        execution, one = made[waiting.pop()]
        if one.id in seen:
            continue
        seen[one.id] = one
        links[named(one)] = f"/stages/{case}/{execution.node}?run={run_id}"
        for taken in execution.inputs:
            if taken.id in made:
                edges.add((named(taken), named(one)))
                waiting.append(taken.id)
    return sorted(seen.values(), key=lambda one: one.id), edges, links
