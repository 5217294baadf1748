"""Break it live: a card an incident, with what happens told while it happens."""

import asyncio
import dataclasses
import json
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, StreamingResponse

from tour import incidents
from tour.incidents.incident import IncidentEvent, LiveSystem, StagedIncident

router = APIRouter()
END = "end"
ALIVE = 10.0  # seconds without news after which a blank line keeps the connection


@router.get("/break", response_class=HTMLResponse)
def page(request: Request) -> HTMLResponse:
    """All incidents."""
    shown = {"incidents": _incidents(request).values(), "served": request.app.state.gateway()}
    return request.app.state.page(request, "break.html", active="Break it live", **shown)


@router.post("/break/{name}")
async def do(request: Request, name: str, undo: bool = False) -> StreamingResponse:
    """Does an incident, or takes it back: a line of JSON an event, the last of kind ``end``."""
    known = _incidents(request)
    if name not in known:
        raise HTTPException(404, f"There is no incident '{name}'.")
    live = LiveSystem(request.app.state.home, request.app.state.gateway())
    return StreamingResponse(_told(name, live, undo, known), media_type="application/x-ndjson")


def _incidents(request: Request) -> Mapping[str, StagedIncident]:
    return getattr(request.app.state, "incidents", incidents.INCIDENTS)


async def _told(name: str, live: LiveSystem, undo: bool, known: Mapping[str, StagedIncident]) -> AsyncIterator[str]:
    """The events of an incident, which has a thread of its own: its processes end with that, and no page waits for it.

    It goes on to its end when the page is left, so that it cleans up after itself.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def put(told: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(queue.put_nowait, told)

    threading.Thread(target=_played, args=(name, live, undo, known, put), name=f"incident {name}", daemon=True).start()
    while True:
        try:
            told = await asyncio.wait_for(queue.get(), ALIVE)
        except TimeoutError:
            yield "\n"
            continue
        yield json.dumps(told) + "\n"
        if told["kind"] == END:
            return


def _played(name: str, live: LiveSystem, undo: bool, known: Mapping[str, StagedIncident], put: Any) -> None:
    ok = False
    try:
        for event in incidents.play(name, live, undo, known):
            put(dataclasses.asdict(event))
        ok = True
    except (ValueError, OSError) as error:
        put(dataclasses.asdict(IncidentEvent(str(error), "bad")))
    except Exception as error:  # a page that waits for ever would tell nobody
        put(dataclasses.asdict(IncidentEvent(f"{type(error).__name__}: {error}", "bad")))
    finally:
        put({"kind": END, "ok": ok, "text": "", "data": {}})
