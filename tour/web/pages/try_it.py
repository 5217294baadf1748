"""The page on which a purchase is sent or a digit drawn, answered by the server and by LiteRT in Python and in the browser."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from markupsafe import Markup

from models.catalog import CASES
from pipeline.metadata.store_address import MetadataUnavailableError
from pipeline.online import rollouts
from serving.browser import site
from tour import logbook
from tour.web import trial
from tour.web.trial import Beside

MOST = 256 << 10  # bytes of a request that is passed on
SECONDS, QUIET = 10.0, 3.0
MODEL = re.compile(r"([a-z0-9_-]{1,40})@(\d{1,9})")


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    begun = asyncio.create_task(_begun(app.state.home))
    yield
    begun.cancel()
    if hasattr(app.state, "beside"):
        await app.state.beside.close()


async def _begun(home: Path) -> None:
    """Looks at the first case's rows once, a little after the start: what reads them takes a second to import."""
    await asyncio.sleep(QUIET)
    with suppress(OSError, ValueError):  # the page says it when it is asked for
        await asyncio.to_thread(trial.start, home, next(iter(CASES)))


router = APIRouter(lifespan=_lifespan)


@router.get("/try", response_class=HTMLResponse)
async def first(request: Request) -> HTMLResponse:
    """The first case."""
    return await page(request, next(iter(CASES)))


@router.get("/try/{case}", response_class=HTMLResponse)
async def page(request: Request, case: str) -> HTMLResponse:
    """One case: where to begin, and what is missing."""
    _known(case)
    home = request.app.state.home
    begin, shape = await asyncio.gather(
        asyncio.to_thread(trial.start, home, case), asyncio.to_thread(_shape, request, case)
    )
    found = await asyncio.to_thread(_site)
    values: dict[str, Any] = {"case": case, "cases": list(CASES.items()), "begin": begin, "shape": shape, "home": home}
    values |= {"rows": json.dumps({"usual": begin.usual, "odd": begin.odd, "every": begin.every, "key": begin.key})}
    values |= {"frame": json.dumps(shape) if shape else "", "gateway": request.app.state.gateway()}
    values |= {"browser": found is not None, "map": _import_map()}
    answer = request.app.state.page(request, "try.html", active="Try it", **values)
    if values["gateway"] and not begin.problem:
        await _beside(request.app).warm()
    if found:  # WebAssembly, and the one import map that the page has in it
        answer.headers["content-security-policy"] = found.policy
    return answer


@router.post("/try/{case}/score")
async def score(request: Request, case: str) -> JSONResponse:
    """Passes the request on to the gateway; what the gateway says comes back with the milliseconds that it took."""
    _known(case)
    gateway, body = request.app.state.gateway(), await _body(request)
    if not gateway:
        raise HTTPException(503, f"No gateway runs: `showcase serve --home {request.app.state.home}` starts one.")
    began = time.perf_counter()
    try:
        async with httpx.AsyncClient(timeout=SECONDS, trust_env=False) as client:
            url, began = f"http://{gateway}/v1/{case}/score", time.perf_counter()
            answer = await client.post(url, content=body, headers={"content-type": "application/json"})
            spent = 1000 * (time.perf_counter() - began)
            told = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise HTTPException(502, f"The gateway at {gateway} gave no answer ({type(error).__name__}).") from None
    if answer.status_code != 200:
        raise HTTPException(answer.status_code, str(told.get("error", "The gateway refused it."))[:500])
    return JSONResponse({"milliseconds": spent, "answer": told})


@router.post("/try/{case}/lite")
async def lite(request: Request, case: str) -> JSONResponse:
    """The request that was logged under an id, by LiteRT in Python; with the tensors that the browser needs for its own."""
    _known(case)
    try:
        identity = str(json.loads(await _body(request))["prediction_id"])
    except (ValueError, LookupError, TypeError):
        raise HTTPException(422, "This takes a prediction_id.") from None
    if not logbook.IDENTITY.fullmatch(identity) or not identity.startswith(f"{case}."):
        raise HTTPException(404, f"This is no id of a prediction of {case}.")
    try:
        return JSONResponse(asdict(await _beside(request.app).answer(case, identity)))
    except LookupError as error:
        raise HTTPException(404, str(error.args[0])) from None
    except TimeoutError:
        raise HTTPException(504, f"TensorFlow did not answer within {trial.SECONDS:.0f} s.") from None
    except MetadataUnavailableError:
        raise
    except (ValueError, OSError) as error:
        raise HTTPException(500, str(error)) from None


@router.get("/cases/{name}/model.tflite")
async def model(request: Request, name: str) -> Response:
    """A version's model of one row; the name is that of the case with the version behind an ``@``."""
    parts = MODEL.fullmatch(name)
    if not parts or parts[1] not in CASES:
        raise HTTPException(404, "There is no such model.")
    try:
        path = await asyncio.to_thread(
            trial.version_file, request.app.state.home, parts[1], int(parts[2]), trial.ONE_ROW
        )
    except LookupError as error:
        raise HTTPException(404, str(error.args[0])) from None
    return Response(await asyncio.to_thread(path.read_bytes), media_type="application/octet-stream")


@router.get("/litert/{path:path}")
@router.get("/board.js")
@router.get("/model.js")
async def asset(request: Request) -> Response:
    """LiteRT.js and the scripts of the browser page, from the same files that ``showcase browser`` serves."""
    found = await asyncio.to_thread(_site)
    answer = await asyncio.to_thread(found.answer, request.url.path) if found else None
    if answer is None:
        raise HTTPException(404, "There is no such file.")
    return Response(answer[1], media_type=answer[0])


def _known(case: str) -> None:
    if case not in CASES:
        raise HTTPException(404, f"There is no use case '{case[:40]}'.")


async def _body(request: Request) -> bytes:
    """The body, up to ``MOST`` bytes, whatever its head says of its length."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST:
            raise HTTPException(413, f"The body is larger than {MOST} bytes.")
        parts.append(part)
    return b"".join(parts)


def _beside(app: FastAPI) -> Beside:
    if not hasattr(app.state, "beside"):
        app.state.beside = Beside(app.state.home)
    return app.state.beside


def _site() -> site.Site | None:
    """The browser's files; None where `make browser` has not been run."""
    try:
        return site.Site({})
    except FileNotFoundError:
        return None


def _import_map() -> Markup:
    """The import map of the browser page, letter for letter: the policy knows it by its hash."""
    (text,) = site.IMPORT_MAP.findall((site.HERE / "page" / "index.html").read_text())
    return Markup(text)


def _shape(request: Request, case: str) -> dict[str, int] | None:
    """Height, width and channels of the pictures that the served version takes; None where it takes none."""
    folder = rollouts.served_version(request.app.state.home, case)
    path = folder / site.EXTRA / "model.json" if folder else None
    if not CASES[case].picture or not path or not path.is_file():
        return None
    settings = json.loads(path.read_text())["settings"]
    return {name: int(settings[name]) for name in ("height", "width", "channels")}
