"""The System page: the last run of each case, what is served, what goes through it and what is drifting, as it happens."""

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

from tour.live import traffic
from tour.live.dag import Dag, StageStatus
from tour.live.traffic import Traffic
from tour.live.watch import HomeState

BREATH = 10.0  # seconds after which a silent stream says that it is alive
ACROSS, DOWN, WIDE, HIGH = 176, 64, 150, 48  # of the drawing: steps between stages, and a stage's box
router = APIRouter()


@router.get("/", response_class=HTMLResponse)
async def system(request: Request) -> HTMLResponse:
    """The page as it is now; it goes on by itself."""
    watch, page = request.app.state.watch, request.app.state.page
    state = await watch.now()
    return page(
        request, "system.html", active="System", state=state, parts=watch.render_once(partial(parts, page.templates))
    )


@router.get("/events")
async def events(request: Request) -> StreamingResponse:
    """The parts of the page that change, each as HTML by the id of its element."""
    return StreamingResponse(_events(request), media_type="text/event-stream", headers={"x-accel-buffering": "no"})


async def _events(request: Request) -> AsyncIterator[str]:
    watch, templates = request.app.state.watch, request.app.state.page.templates
    sent: dict[str, str] = {}
    await watch.now()
    while not await request.is_disconnected():
        number = watch.number
        found = watch.render_once(partial(parts, templates))
        changed = {name: text for name, text in found.items() if sent.get(name) != text}
        yield message("parts", changed) if changed else ": still here\n\n"
        sent = found
        if not await watch.after(number, BREATH):
            return


def message(kind: str, told: Mapping[str, Any]) -> str:
    """A server-sent event; JSON has no line breaks that would end it."""
    return f"event: {kind}\ndata: {json.dumps(told)}\n\n"


def parts(templates: Environment, state: HomeState) -> dict[str, str]:
    """The changing parts of the page by the id of their element."""
    macros: Any = templates.get_template("system_parts.html").module  # has the template's macros as attributes
    found = {"serving": macros.serving(state), "happened": macros.happened(state)}
    for case in state.cases:
        flow = state.flow.get(case.name, Traffic())
        line = traffic.polyline_points(flow.history, 120, 28) if any(flow.history) else ""
        found[f"run-{case.name}"] = macros.run(case)
        found[f"tiles-{case.name}"] = macros.tiles(case, flow, line, bool(state.gateway))
        found[f"graph-{case.name}"] = macros.graph(case, drawn(case.graph) if case.graph else None)
    return {name: Markup(text) for name, text in found.items()}


@dataclass(frozen=True)
class Drawn:
    """A graph with places: size, boxes as (stage, x, y), and edges as paths."""

    width: int
    height: int
    boxes: tuple[tuple[StageStatus, float, float], ...]
    edges: tuple[tuple[str, str], ...]


def drawn(dag: Dag) -> Drawn:
    """Where everything of a graph lies; an edge is told with the state of the stage it comes from."""
    place = {one.name: (one.column * ACROSS + 2.0, one.row * DOWN + 2.0) for one in dag.stages}
    boxes = tuple((one, *place[one.name]) for one in dag.stages)
    edges = []
    for (a, b), way in zip(dag.edges, dag.ways, strict=True):
        first, last = dag.stage(a), dag.stage(b)
        stops = [
            (first.column, first.row),
            *((first.column + at, row) for at, row in enumerate(way, 1)),
            (last.column, last.row),
        ]
        edges.append(("".join(_bend(*pair) for pair in pairwise(stops)), first.state))
    width, height = (dag.columns - 1) * ACROSS + WIDE + 4, (dag.rows - 1) * DOWN + HIGH + 4
    return Drawn(int(width), int(height), boxes, tuple(edges))


def _bend(start: tuple[int, float], end: tuple[int, float]) -> str:
    """A path from a column to the next: through the gap between them, then straight on to the next gap."""
    x, y = start[0] * ACROSS + WIDE + 2, start[1] * DOWN + HIGH / 2 + 2
    to, down = end[0] * ACROSS + 2, end[1] * DOWN + HIGH / 2 + 2
    middle, half = (x + to) / 2, WIDE / 2
    return f"M{x - half:.0f} {y:.0f}H{x}C{middle:.0f} {y:.0f} {middle:.0f} {down:.0f} {to} {down:.0f}H{to + half:.0f}"
