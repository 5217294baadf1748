"""The System page: the last run of each case, its served version, traffic and drift, updated live."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, StreamingResponse
from jinja2 import Environment
from markupsafe import Markup

from tour.live import gateway_counters
from tour.live.dag import Dag, StageStatus
from tour.live.gateway_counters import Traffic
from tour.live.watch import HomeState

KEEPALIVE_SECONDS = 10.0  # a comment is sent after this time without a change
COLUMN_STEP, ROW_STEP, BOX_WIDTH, BOX_HEIGHT = 176, 64, 150, 48  # of the drawing, in SVG units
router = APIRouter()


@router.get("/", response_class=HTMLResponse)
async def system(request: Request) -> HTMLResponse:
    """Render the page; its parts are updated through ``/events``."""
    watch, page = request.app.state.watch, request.app.state.page
    state = await watch.now()
    return page(
        request,
        "system.html",
        active="System",
        state=state,
        parts=watch.render_once(partial(render_parts, page.templates)),
    )


@router.get("/events")
async def events(request: Request) -> StreamingResponse:
    """Stream the parts of the page that have changed, as HTML by element id."""
    return StreamingResponse(_events(request), media_type="text/event-stream", headers={"x-accel-buffering": "no"})


async def _events(request: Request) -> AsyncIterator[str]:
    watch, templates = request.app.state.watch, request.app.state.page.templates
    sent: dict[str, str] = {}
    await watch.now()
    while not await request.is_disconnected():
        number = watch.number
        current = watch.render_once(partial(render_parts, templates))
        changed = {name: text for name, text in current.items() if sent.get(name) != text}
        yield format_event("parts", changed) if changed else ": keep-alive\n\n"
        sent = current
        if not await watch.after(number, KEEPALIVE_SECONDS):
            return


def format_event(kind: str, data: Mapping[str, Any]) -> str:
    """Format a server-sent event; JSON escapes line breaks, which would end it."""
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


def render_parts(templates: Environment, state: HomeState) -> dict[str, str]:
    """Render the live parts of the page; returns HTML by element id."""
    macros: Any = templates.get_template("system_parts.html").module  # its attributes are the template's macros
    rendered = {"serving": macros.serving(state), "happened": macros.happened(state)}
    for case in state.cases:
        flow = state.flow.get(case.name, Traffic())
        line = gateway_counters.polyline_points(flow.history, 120, 28) if any(flow.history) else ""
        rendered[f"run-{case.name}"] = macros.run(case)
        rendered[f"tiles-{case.name}"] = macros.tiles(case, flow, line, bool(state.gateway))
        rendered[f"graph-{case.name}"] = macros.graph(case, draw_graph(case.graph) if case.graph else None)
    return {name: Markup(text) for name, text in rendered.items()}


@dataclass(frozen=True)
class GraphDrawing:
    """A graph with coordinates in SVG units: boxes as (stage, x, y) and edges as (path, state)."""

    width: int
    height: int
    boxes: tuple[tuple[StageStatus, float, float], ...]
    edges: tuple[tuple[str, str], ...]


def draw_graph(dag: Dag) -> GraphDrawing:
    """Compute the coordinates of a graph; an edge has the state of the stage where it starts."""
    corners = {stage.name: (stage.column * COLUMN_STEP + 2.0, stage.row * ROW_STEP + 2.0) for stage in dag.stages}
    boxes = tuple((stage, *corners[stage.name]) for stage in dag.stages)
    edges = []
    for (a, b), way in zip(dag.edges, dag.ways, strict=True):
        first, last = dag.stage(a), dag.stage(b)
        stops = [
            (first.column, first.row),
            *((first.column + offset, row) for offset, row in enumerate(way, 1)),
            (last.column, last.row),
        ]
        edges.append(("".join(_draw_edge(*pair) for pair in pairwise(stops)), first.state))
    width = (dag.columns - 1) * COLUMN_STEP + BOX_WIDTH + 4
    height = (dag.rows - 1) * ROW_STEP + BOX_HEIGHT + 4
    return GraphDrawing(int(width), int(height), boxes, tuple(edges))


def _draw_edge(start: tuple[int, float], end: tuple[int, float]) -> str:
    """SVG path from a column to the next: a curve through the gap between them, horizontal behind the boxes."""
    x0, y0 = start[0] * COLUMN_STEP + BOX_WIDTH + 2, start[1] * ROW_STEP + BOX_HEIGHT / 2 + 2
    x1, y1 = end[0] * COLUMN_STEP + 2, end[1] * ROW_STEP + BOX_HEIGHT / 2 + 2
    middle, half = (x0 + x1) / 2, BOX_WIDTH / 2
    return f"M{x0 - half:.0f} {y0:.0f}H{x0}C{middle:.0f} {y0:.0f} {middle:.0f} {y1:.0f} {x1} {y1:.0f}H{x1 + half:.0f}"
