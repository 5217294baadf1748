"""The pages on lineage: a prediction back to its data, a span forward to its predictions, an artifact to its sources."""

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse

from models.catalog import CASES
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from serving import rollout
from tour import lineage, logbook, stations, trace
from tour.evidence.result_types import Graph
from tour.lineage import Trail
from tour.live import dag
from tour.logbook import PredictionLogReader
from tour.web.pages.system import Drawn, drawn

router = APIRouter()
SHOWN, FEATURES = 12, 40
books: dict[Path, PredictionLogReader] = {}
turn = threading.Lock()  # a log is read by one at a time


@router.get("/lineage", response_class=HTMLResponse)
async def overview(request: Request) -> HTMLResponse:
    """Where to begin: the latest predictions, and the spans that runs have seen."""
    home = request.app.state.home
    groups = await asyncio.to_thread(_begin, home)
    return request.app.state.page(request, "lineage.html", active="Lineage", groups=groups)


@router.get("/lineage/find")
async def find(request: Request, id: str = "") -> HTMLResponse:
    """The prediction of an id that somebody typed."""
    return await prediction(request, id.strip())


@router.get("/lineage/prediction/{identity}", response_class=HTMLResponse)
async def prediction(request: Request, identity: str) -> HTMLResponse:
    """One logged prediction, back to its data."""
    parts = logbook.IDENTITY.fullmatch(identity)
    if not parts or parts[1] not in CASES:
        raise HTTPException(404, "This is no id of a prediction; it looks like fraud.1.2f.0123abcd.")
    values = await asyncio.to_thread(_back, request.app.state.home, parts[1], identity)
    return request.app.state.page(request, "trail.html", active="Lineage", **values)


@router.get("/lineage/span/{case}/{source}/{span}", response_class=HTMLResponse)
async def span(request: Request, case: str, source: int, span: int) -> HTMLResponse:
    """One span, forward to the predictions that came of it."""
    if case not in CASES:
        raise HTTPException(404, f"There is no use case '{case[:40]}'.")
    values = await asyncio.to_thread(_forward, request.app.state.home, case, source, span)
    return request.app.state.page(request, "trail.html", active="Lineage", **values)


@router.get("/lineage/artifact/{artifact}", response_class=HTMLResponse)
async def artifact(request: Request, artifact: int) -> HTMLResponse:
    """One artifact and all that it comes from, at any depth and over runs."""
    values = await asyncio.to_thread(_artifact, request.app.state.home, artifact)
    return request.app.state.page(request, "artifact.html", active="Lineage", **values)


def _begin(home: Path) -> list[dict[str, Any]]:
    return [
        {"case": name, "title": case.title, **_latest(home, name), "sources": lineage.read_sources(home, name)}
        for name, case in CASES.items()
    ]


def _latest(home: Path, case: str) -> dict[str, Any]:
    try:
        book = _book(home, case)
        return {"latest": book.latest(SHOWN), "counts": sorted(book.counts().items()), "problem": ""}
    except (OSError, ValueError) as error:
        return {"latest": [], "counts": [], "problem": f"The log cannot be read: {error}"}


def _book(home: Path, case: str) -> PredictionLogReader:
    """The case's log up to now; versions that are gone have answered too, hence all numbers up to the newest."""
    folder = home / case / "online"
    versions = rollout.list_versions(Path(str(local_runtime(home).case(case).versions)))
    with turn:
        return books.setdefault(folder, PredictionLogReader(folder)).refresh(range(1, max(versions, default=0) + 1))


def _back(home: Path, case: str, identity: str) -> dict[str, Any]:
    found = logbook.find_prediction(home / case / "online", identity)
    if found is None:
        raise HTTPException(404, f"The log of {case} has no prediction {identity}, or does not keep it any more.")
    trail = lineage.trace_back(home, case, found)
    features = list(found.features.items())[:FEATURES]
    lead = "What it was asked with, who answered, and every step back to the data."
    return _values(f"Prediction {identity}", lead, case, trail, features)


def _forward(home: Path, case: str, source: int, span: int) -> dict[str, Any]:
    sources = lineage.read_sources(home, case)
    if not 0 <= source < len(sources):
        raise HTTPException(404, f"No run of {case} has learnt from such a source.")
    try:
        counts: Mapping[int, int] = _book(home, case).counts()
    except (OSError, ValueError):
        counts = {}
    trail = lineage.trace_forward(home, case, sources[source], span, counts)
    lead = "Which runs learnt from it, which versions they pushed, and how many logged predictions those answered."
    return _values(f"Span {span} of {case}", lead, case, trail, [])


def _values(title: str, lead: str, case: str, trail: Trail, features: list[tuple[str, Any]]) -> dict[str, Any]:
    missing = [one for one in trail.steps if one.missing]
    return {
        "title": title,
        "lead": lead,
        "case": case,
        "trail": trail,
        "features": features,
        "missing": missing,
        "graph": graph(trail.edges, {one.name for one in missing}),
        "links": trail.links,
    }


def graph(edges: frozenset[tuple[str, str]] | tuple[tuple[str, str], ...], missing: set[str]) -> Drawn | None:
    """Places for a drawing; what is missing is drawn so."""
    names = {name for pair in edges for name in pair}
    if not names:
        return None
    boxes = [dag.StageStatus(name, "not reached" if name in missing else "done") for name in sorted(names)]
    return drawn(dag.lay_out(boxes, edges))


def _artifact(home: Path, artifact: int) -> dict[str, Any]:
    from tour.evidence import overview as evidence

    metadata = local_runtime(home).metadata
    found = trace.find_producer(metadata, artifact)
    if found is None:
        raise HTTPException(404, f"The store has no artifact {artifact}, or no run made it.")
    run, execution = found
    one = next(out for out in execution.outputs if out.id == artifact)
    case = next((name for name in CASES if run.startswith(f"{name}-")), "")
    whole: Graph = evidence.lineage(metadata, artifact)
    known = {other.id: other for other in store.runs(metadata)}
    return {
        "one": one,
        "run": run,
        "node": execution.node,
        "case": case,
        "state": known[run].state if run in known else "",
        "title": stations.artifact_name(one),
        "rows": _rows(whole),
        "graph": graph(artifacts_only(whole), set()),
    }


def _rows(whole: Graph) -> list[dict[str, Any]]:
    return [
        {
            "name": node.name,
            "detail": node.detail,
            "state": node.state,
            "sources": [source for source, target in whole.edges if target == node.name],
        }
        for node in whole.nodes
    ]


def artifacts_only(whole: Graph) -> frozenset[tuple[str, str]]:
    """A graph of artifacts and executions with the executions left out: whatever one took, all that it gave came of."""
    makers = {node.name for node in whole.nodes if node.name.endswith(")")}
    given = {name: [target for source, target in whole.edges if source == name] for name in makers}
    return frozenset((source, out) for source, target in whole.edges if target in makers for out in given[target])
