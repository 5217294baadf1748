"""The questions: a list to search, a page each with evidence computed on request, and a rehearsal."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from models.catalog import CASES
from tour import notes
from tour.notes import Note
from tour.web.pages.system import message
from tour.web.prover import BUDGET, BusyError, Job

TICK = 0.2  # seconds between two looks at how far evidence is
router = APIRouter()


@router.get("/questions", response_class=HTMLResponse)
async def questions(request: Request, q: str = "") -> HTMLResponse:
    """All questions, or those that have the words, the best first."""
    found = await asyncio.to_thread(notes.current)
    words = q.strip()[:200]
    asked = words.upper()
    ids = (
        list(notes.questions()) if not words else [asked] if asked in notes.questions() else notes.search(words, found)
    )
    rows = [(notes.questions()[id_], found.get(id_)) for id_ in ids]
    return request.app.state.page(request, "questions.html", active="Questions", rows=rows, words=words)


@router.get("/rehearse", response_class=HTMLResponse)
async def rehearse(request: Request) -> HTMLResponse:
    """Questions drawn at random; the score stays in the browser."""
    found = await asyncio.to_thread(notes.current)
    return request.app.state.page(request, "rehearse.html", active="Questions", ids=list(found), notes=found)


@router.get("/questions/{id_}", response_class=HTMLResponse)
async def question(request: Request, id_: str) -> HTMLResponse:
    """One question."""
    found = await asyncio.to_thread(notes.current)
    note, ids = _note(found, id_), list(notes.questions())
    place = ids.index(note.id)
    near = {"before": ids[place - 1] if place else None, "after": ids[place + 1] if place + 1 < len(ids) else None}
    related = [
        one for one in notes.search(f"{note.question.text} {note.answer}", found) if one != note.id and one in found
    ][:4]
    values: dict[str, Any] = {"note": note, **near, "related": [found[one] for one in related]}
    shown = _shown(request, note.id)
    return request.app.state.page(request, "question.html", active="Questions", evidence=shown, **values)


@router.get("/questions/{id_}/card", response_class=HTMLResponse)
async def card(request: Request, id_: str) -> HTMLResponse:
    """One question alone, its answer hidden, for the rehearsal."""
    found = await asyncio.to_thread(notes.current)
    return request.app.state.page(request, "card.html", note=_note(found, id_))


@router.post("/questions/{id_}/evidence")
async def compute(request: Request, id_: str, case: str = "") -> Response:
    """Has the evidence computed now."""
    found = await asyncio.to_thread(notes.current)
    if case and case not in CASES:
        raise HTTPException(404, f"There is no use case '{case[:40]}'.")
    try:
        request.app.state.prover.ask(_note(found, id_).id, case or None)
    except BusyError as error:
        raise HTTPException(429, str(error)) from None
    return RedirectResponse(f"/questions/{id_}#evidence", 303)


@router.post("/questions/{id_}/evidence/stop")
async def stop(request: Request, id_: str) -> Response:
    """Ends the computing."""
    found = await asyncio.to_thread(notes.current)
    await request.app.state.prover.stop(_note(found, id_).id)
    return RedirectResponse(f"/questions/{id_}#evidence", 303)


@router.get("/questions/{id_}/events")
async def events(request: Request, id_: str) -> StreamingResponse:
    """How far the evidence is, and the evidence."""
    found = await asyncio.to_thread(notes.current)
    told = _events(request, _note(found, id_).id)
    return StreamingResponse(told, media_type="text/event-stream")


async def _events(request: Request, id_: str) -> AsyncIterator[str]:
    """Ends with the job: the page asks again when it has another one computed."""
    sent, job = None, request.app.state.prover.job(id_)
    while job and not await request.is_disconnected():
        if sent != (job.state, job.warm):  # the page counts the seconds by itself
            sent = job.state, job.warm
            yield message("parts", {"evidence": await asyncio.to_thread(_shown, request, id_)})
        if job.over:
            break
        await asyncio.sleep(TICK)
    yield message("end", {})


def _shown(request: Request, id_: str) -> str:
    """The evidence as HTML: nothing yet, how far it is, what came of it."""
    job: Job | None = request.app.state.prover.job(id_)
    macros = request.app.state.page.templates.get_template("evidence.html").module
    return macros.evidence(id_, job, BUDGET)


def _note(found: dict[str, Note], id_: str) -> Note:
    note = found.get(id_.upper())
    if note is None:
        raise HTTPException(404, f"There is no question '{id_[:20]}'; /questions lists them all.")
    return note
