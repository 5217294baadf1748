"""The Questions pages: a searchable list, one page per question with evidence computed on request, and a rehearsal."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from models.catalog import CASES
from tour import notes
from tour.notes import Note
from tour.web.pages.system import format_event
from tour.web.prover import BUDGET_SECONDS, EvidenceJob, QueueFullError

POLL_SECONDS = 0.2
router = APIRouter()


@router.get("/questions", response_class=HTMLResponse)
async def questions(request: Request, q: str = "") -> HTMLResponse:
    """Render all questions, or those that match the search, the best match first."""
    current = await asyncio.to_thread(notes.current)
    words = q.strip()[:200]
    exact = words.upper()
    ids = (
        list(notes.questions())
        if not words
        else [exact]
        if exact in notes.questions()
        else notes.search(words, current)
    )
    rows = [(notes.questions()[id_], current.get(id_)) for id_ in ids]
    return request.app.state.page(request, "questions.html", active="Questions", rows=rows, words=words)


@router.get("/rehearse", response_class=HTMLResponse)
async def rehearse(request: Request) -> HTMLResponse:
    """Render the rehearsal, which draws questions at random; the score stays in the browser."""
    current = await asyncio.to_thread(notes.current)
    return request.app.state.page(request, "rehearse.html", active="Questions", ids=list(current), notes=current)


@router.get("/questions/{id_}", response_class=HTMLResponse)
async def question(request: Request, id_: str) -> HTMLResponse:
    current = await asyncio.to_thread(notes.current)
    note, ids = _get_note(current, id_), list(notes.questions())
    index = ids.index(note.id)
    near = {"before": ids[index - 1] if index else None, "after": ids[index + 1] if index + 1 < len(ids) else None}
    matches = notes.search(f"{note.question.text} {note.answer}", current)
    related = [match for match in matches if match != note.id and match in current][:4]
    values: dict[str, Any] = {"note": note, **near, "related": [current[match] for match in related]}
    evidence = _render_evidence(request, note.id)
    return request.app.state.page(request, "question.html", active="Questions", evidence=evidence, **values)


@router.get("/questions/{id_}/card", response_class=HTMLResponse)
async def card(request: Request, id_: str) -> HTMLResponse:
    """Render one question with its answer hidden, for the rehearsal."""
    current = await asyncio.to_thread(notes.current)
    return request.app.state.page(request, "card.html", note=_get_note(current, id_))


@router.post("/questions/{id_}/evidence")
async def compute(request: Request, id_: str, case: str = "") -> Response:
    """Queue the evidence of a question."""
    current = await asyncio.to_thread(notes.current)
    if case and case not in CASES:
        raise HTTPException(404, f"There is no use case '{case[:40]}'.")
    try:
        request.app.state.prover.submit(_get_note(current, id_).id, case or None)
    except QueueFullError as error:
        raise HTTPException(429, str(error)) from None
    return RedirectResponse(f"/questions/{id_}#evidence", 303)


@router.post("/questions/{id_}/evidence/stop")
async def stop(request: Request, id_: str) -> Response:
    current = await asyncio.to_thread(notes.current)
    await request.app.state.prover.stop(_get_note(current, id_).id)
    return RedirectResponse(f"/questions/{id_}#evidence", 303)


@router.get("/questions/{id_}/events")
async def events(request: Request, id_: str) -> StreamingResponse:
    """Stream the progress of the evidence, then the evidence."""
    current = await asyncio.to_thread(notes.current)
    stream = _stream_evidence(request, _get_note(current, id_).id)
    return StreamingResponse(stream, media_type="text/event-stream")


async def _stream_evidence(request: Request, id_: str) -> AsyncIterator[str]:
    """Stream until the job ends; the page opens another stream for the next job."""
    sent, job = None, request.app.state.prover.job(id_)
    while job and not await request.is_disconnected():
        if sent != (job.state, job.warm):  # the page counts the seconds itself
            sent = job.state, job.warm
            yield format_event("parts", {"evidence": await asyncio.to_thread(_render_evidence, request, id_)})
        if job.is_over:
            break
        await asyncio.sleep(POLL_SECONDS)
    yield format_event("end", {})


def _render_evidence(request: Request, id_: str) -> str:
    """Render the evidence as HTML: not requested, in progress, or the results."""
    job: EvidenceJob | None = request.app.state.prover.job(id_)
    macros = request.app.state.page.templates.get_template("evidence.html").module
    return macros.evidence(id_, job, BUDGET_SECONDS)


def _get_note(current: dict[str, Note], id_: str) -> Note:
    note = current.get(id_.upper())
    if note is None:
        raise HTTPException(404, f"There is no question '{id_[:20]}'; /questions lists all.")
    return note
