"""The page Break it live: one card per incident, with its events as they happen."""

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
KEEPALIVE_SECONDS = 10.0  # a blank line is sent after this time without an event


@router.get("/break", response_class=HTMLResponse)
def page(request: Request) -> HTMLResponse:
    values = {"incidents": _incidents(request).values(), "served": request.app.state.gateway()}
    return request.app.state.page(request, "break.html", active="Break it live", **values)


@router.post("/break/{name}")
async def play(request: Request, name: str, undo: bool = False) -> StreamingResponse:
    """Play an incident or undo it; stream one JSON line per event, the last of kind ``end``."""
    available = _incidents(request)
    if name not in available:
        raise HTTPException(404, f"There is no incident '{name}'; /break lists them.")
    live = LiveSystem(request.app.state.home, request.app.state.gateway())
    return StreamingResponse(_stream_events(name, live, undo, available), media_type="application/x-ndjson")


def _incidents(request: Request) -> Mapping[str, StagedIncident]:
    return getattr(request.app.state, "incidents", incidents.INCIDENTS)


async def _stream_events(
    name: str, live: LiveSystem, undo: bool, available: Mapping[str, StagedIncident]
) -> AsyncIterator[str]:
    """Play an incident in a thread of its own, so that it blocks no other page, and stream its events.

    The thread runs to its end even if the client disconnects, so that the incident cleans up.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def put(event: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(queue.put_nowait, event)

    arguments = (name, live, undo, available, put)
    threading.Thread(target=_play_in_thread, args=arguments, name=f"incident {name}", daemon=True).start()
    while True:
        try:
            event = await asyncio.wait_for(queue.get(), KEEPALIVE_SECONDS)
        except TimeoutError:
            yield "\n"
            continue
        yield json.dumps(event) + "\n"
        if event["kind"] == END:
            return


def _play_in_thread(name: str, live: LiveSystem, undo: bool, available: Mapping[str, StagedIncident], put: Any) -> None:
    ok = False
    try:
        for event in incidents.play(name, live, undo, available):
            put(dataclasses.asdict(event))
        ok = True
    except (ValueError, OSError) as error:
        put(dataclasses.asdict(IncidentEvent(str(error), "bad")))
    except Exception as error:  # without an event the page would wait forever
        put(dataclasses.asdict(IncidentEvent(f"{type(error).__name__}: {error}", "bad")))
    finally:
        put({"kind": END, "ok": ok, "text": "", "data": {}})
