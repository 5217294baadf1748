"""The Lineage pages: from a prediction to its data, from a span to its predictions, from an artifact to its sources."""

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse

from models.catalog import CASES
from pipeline.home import Home
from pipeline.metadata import store
from tour import lineage, logbook, stations, trace
from tour.evidence.result_types import Graph
from tour.lineage import Trail
from tour.live import dag
from tour.logbook import PredictionLogReader
from tour.web.pages.system import GraphDrawing, draw_graph

router = APIRouter()
MAX_PREDICTIONS, MAX_FEATURES = 12, 40
log_readers: dict[Path, PredictionLogReader] = {}
lock = threading.Lock()  # a reader of a log is not thread-safe


@router.get("/lineage", response_class=HTMLResponse)
async def overview(request: Request) -> HTMLResponse:
    """Render the latest predictions, and the spans that runs were trained on."""
    home = request.app.state.home
    groups = await asyncio.to_thread(_overview, home)
    return request.app.state.page(request, "lineage.html", active="Lineage", groups=groups)


@router.get("/lineage/find")
async def find(request: Request, id: str = "") -> HTMLResponse:
    """Render the prediction with the id from the search form."""
    return await prediction(request, id.strip())


@router.get("/lineage/prediction/{identity}", response_class=HTMLResponse)
async def prediction(request: Request, identity: str) -> HTMLResponse:
    """Render the lineage of one logged prediction, back to its data."""
    parts = logbook.IDENTITY.fullmatch(identity)
    if not parts or parts[1] not in CASES:
        raise HTTPException(404, "This is not a prediction id; an id looks like fraud.1.2f.0123abcd.")
    values = await asyncio.to_thread(_trace_back, request.app.state.home, parts[1], identity)
    return request.app.state.page(request, "trail.html", active="Lineage", **values)


@router.get("/lineage/span/{case}/{source}/{span}", response_class=HTMLResponse)
async def span(request: Request, case: str, source: int, span: int) -> HTMLResponse:
    """Render the lineage of one span, forward to the predictions of the models trained on it."""
    if case not in CASES:
        raise HTTPException(404, f"There is no use case '{case[:40]}'.")
    values = await asyncio.to_thread(_trace_forward, request.app.state.home, case, source, span)
    return request.app.state.page(request, "trail.html", active="Lineage", **values)


@router.get("/lineage/artifact/{artifact}", response_class=HTMLResponse)
async def artifact(request: Request, artifact: int) -> HTMLResponse:
    """Render one artifact and everything it was derived from, across runs."""
    values = await asyncio.to_thread(_artifact, request.app.state.home, artifact)
    return request.app.state.page(request, "artifact.html", active="Lineage", **values)


def _overview(home: Path) -> list[dict[str, Any]]:
    return [
        {"case": name, "title": case.title, **_latest(home, name), "sources": lineage.read_sources(home, name)}
        for name, case in CASES.items()
    ]


def _latest(home: Path, case: str) -> dict[str, Any]:
    try:
        log = _read_log(home, case)
        return {"latest": log.latest(MAX_PREDICTIONS), "counts": sorted(log.counts().items()), "problem": ""}
    except (OSError, ValueError) as error:
        return {"latest": [], "counts": [], "problem": f"The prediction log cannot be read: {error}"}


def _read_log(home: Path, case: str) -> PredictionLogReader:
    """Read the case's log up to now."""
    folder = Home(home).case(case).online
    with lock:
        return log_readers.setdefault(folder, PredictionLogReader(folder)).refresh()


def _trace_back(home: Path, case: str, identity: str) -> dict[str, Any]:
    logged = logbook.find_prediction(Home(home).case(case).online, identity)
    if logged is None:
        raise HTTPException(404, f"The log of {case} has no prediction {identity}; it may have been deleted.")
    trail = lineage.trace_back(home, case, logged)
    features = list(logged.features.items())[:MAX_FEATURES]
    lead = "The request, the model version that answered it, its run and code, and the data it was trained on."
    return _values(f"Prediction {identity}", lead, case, trail, features)


def _trace_forward(home: Path, case: str, source: int, span: int) -> dict[str, Any]:
    sources = lineage.read_sources(home, case)
    if not 0 <= source < len(sources):
        raise HTTPException(404, f"No run of {case} was trained on source {source}; /lineage lists all sources.")
    try:
        counts: Mapping[int, int] = _read_log(home, case).counts()
    except (OSError, ValueError):
        counts = {}
    trail = lineage.trace_forward(home, case, sources[source], span, counts)
    lead = "The runs trained on it, the versions they pushed, and the number of logged predictions by each version."
    return _values(f"Span {span} of {case}", lead, case, trail, [])


def _values(title: str, lead: str, case: str, trail: Trail, features: list[tuple[str, Any]]) -> dict[str, Any]:
    missing = [step for step in trail.steps if step.missing]
    return {
        "title": title,
        "lead": lead,
        "case": case,
        "trail": trail,
        "features": features,
        "missing": missing,
        "graph": draw_edges(trail.edges, {step.name for step in missing}),
        "links": trail.links,
    }


def draw_edges(
    edges: frozenset[tuple[str, str]] | tuple[tuple[str, str], ...], missing: set[str]
) -> GraphDrawing | None:
    """Draw a graph from its edges, with the missing nodes marked; None if there are no edges."""
    names = {name for pair in edges for name in pair}
    if not names:
        return None
    boxes = [dag.StageStatus(name, "not reached" if name in missing else "done") for name in sorted(names)]
    return draw_graph(dag.lay_out(boxes, edges))


def _artifact(home: Path, artifact: int) -> dict[str, Any]:
    from tour.evidence import overview as evidence

    metadata = Home(home).metadata
    producer = trace.find_producer(metadata, artifact)
    if producer is None:
        raise HTTPException(404, f"The metadata store has no artifact {artifact} that a run has produced.")
    run, execution = producer
    output = next(out for out in execution.outputs if out.id == artifact)
    case = next((name for name in CASES if run.startswith(f"{name}-")), "")
    ancestry: Graph = evidence.lineage(metadata, artifact)
    runs = {other.id: other for other in store.runs(metadata)}
    return {
        "artifact": output,
        "run": run,
        "node": execution.node,
        "case": case,
        "state": runs[run].state if run in runs else "",
        "title": stations.artifact_name(output),
        "rows": _rows(ancestry),
        "graph": draw_edges(drop_executions(ancestry), set()),
    }


def _rows(graph: Graph) -> list[dict[str, Any]]:
    return [
        {
            "name": node.name,
            "detail": node.detail,
            "state": node.state,
            "sources": [source for source, target in graph.edges if target == node.name],
        }
        for node in graph.nodes
    ]


def drop_executions(graph: Graph) -> frozenset[tuple[str, str]]:
    """Remove the executions from a lineage graph: each input of an execution gets an edge to each of its outputs."""
    executions = {node.name for node in graph.nodes if node.name.endswith(")")}
    outputs = {name: [target for source, target in graph.edges if source == name] for name in executions}
    return frozenset((source, out) for source, target in graph.edges if target in executions for out in outputs[target])
