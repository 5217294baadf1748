"""The Try page: send a purchase or draw a digit; the server, LiteRT in Python and LiteRT in the browser answer it."""

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
from tour.web.trial import LiteComparer

MAX_BYTES = 256 << 10  # of a request body
TIMEOUT_SECONDS = 10.0  # of a request to the gateway
WARM_UP_DELAY_SECONDS = 3.0
MODEL_NAME = re.compile(r"([a-z0-9_-]{1,40})@(\d{1,9})")


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    warm_up = asyncio.create_task(_warm_up(app.state.home))
    yield
    warm_up.cancel()
    if hasattr(app.state, "lite_comparer"):
        await app.state.lite_comparer.worker.kill()


async def _warm_up(home: Path) -> None:
    """Load the first case's rows once shortly after the start, because the import of their readers takes a second."""
    await asyncio.sleep(WARM_UP_DELAY_SECONDS)
    with suppress(OSError, ValueError):  # the page reports the error
        await asyncio.to_thread(trial.load_form_rows, home, next(iter(CASES)))


router = APIRouter(lifespan=_lifespan)


@router.get("/try", response_class=HTMLResponse)
async def first(request: Request) -> HTMLResponse:
    """Render the page of the first case."""
    return await page(request, next(iter(CASES)))


@router.get("/try/{case}", response_class=HTMLResponse)
async def page(request: Request, case: str) -> HTMLResponse:
    """Render the page of one case: its request form, and which programs are missing."""
    _check_case(case)
    home = request.app.state.home
    form_rows, shape = await asyncio.gather(
        asyncio.to_thread(trial.load_form_rows, home, case), asyncio.to_thread(_image_shape, request, case)
    )
    browser_site = await asyncio.to_thread(_site)
    values: dict[str, Any] = {"case": case, "cases": list(CASES.items()), "form_rows": form_rows}
    values |= {"shape": shape, "home": home}
    names = ("typical", "unusual", "samples", "key")
    values |= {"rows": json.dumps({name: getattr(form_rows, name) for name in names})}
    values |= {"frame": json.dumps(shape) if shape else "", "gateway": request.app.state.gateway()}
    values |= {"browser": browser_site is not None, "map": _import_map()}
    answer = request.app.state.page(request, "try.html", active="Try it", **values)
    if values["gateway"] and not form_rows.problem:
        await _lite_comparer(request.app).warm_up()
    if browser_site:  # its policy allows WebAssembly and the import map of the page
        answer.headers["content-security-policy"] = browser_site.policy
    return answer


@router.post("/try/{case}/score")
async def score(request: Request, case: str) -> JSONResponse:
    """Forward the request to the gateway; return its answer and the time in milliseconds."""
    _check_case(case)
    gateway, body = request.app.state.gateway(), await _read_body(request)
    if not gateway:
        raise HTTPException(503, f"No gateway is running; `showcase serve --home {request.app.state.home}` starts one.")
    began = time.perf_counter()
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            url, began = f"http://{gateway}/v1/{case}/score", time.perf_counter()
            answer = await client.post(url, content=body, headers={"content-type": "application/json"})
            spent = 1000 * (time.perf_counter() - began)
            content = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise HTTPException(502, f"The gateway at {gateway} did not answer ({type(error).__name__}).") from None
    if answer.status_code != 200:
        raise HTTPException(answer.status_code, str(content.get("error", "The gateway refused the request."))[:500])
    return JSONResponse({"milliseconds": spent, "answer": content})


@router.post("/try/{case}/lite")
async def lite(request: Request, case: str) -> JSONResponse:
    """Answer a logged request with LiteRT in Python; return the input tensors too, which the browser needs."""
    _check_case(case)
    try:
        identity = str(json.loads(await _read_body(request))["prediction_id"])
    except (ValueError, LookupError, TypeError):
        raise HTTPException(422, "The body must be a JSON object with a prediction_id.") from None
    if not logbook.IDENTITY.fullmatch(identity) or not identity.startswith(f"{case}."):
        raise HTTPException(404, f"This is not a prediction id of {case}.")
    try:
        return JSONResponse(asdict(await _lite_comparer(request.app).compare(case, identity)))
    except LookupError as error:
        raise HTTPException(404, str(error.args[0])) from None
    except TimeoutError:
        raise HTTPException(504, f"TensorFlow did not answer within {trial.TIMEOUT_SECONDS:.0f} s.") from None
    except MetadataUnavailableError:
        raise
    except (ValueError, OSError) as error:
        raise HTTPException(500, str(error)) from None


@router.get("/cases/{name}/model.tflite")
async def model(request: Request, name: str) -> Response:
    """Return a version's LiteRT model for one row; ``name`` is the case and the version, as in ``fraud@2``."""
    parts = MODEL_NAME.fullmatch(name)
    if not parts or parts[1] not in CASES:
        raise HTTPException(404, "There is no such model; a name looks like fraud@2.")
    try:
        path = await asyncio.to_thread(
            trial.find_version_file, request.app.state.home, parts[1], int(parts[2]), trial.ONE_ROW
        )
    except LookupError as error:
        raise HTTPException(404, str(error.args[0])) from None
    return Response(await asyncio.to_thread(path.read_bytes), media_type="application/octet-stream")


@router.get("/litert/{path:path}")
@router.get("/board.js")
@router.get("/model.js")
async def asset(request: Request) -> Response:
    """Return a file of LiteRT.js or a script of the browser page, the same files that ``showcase browser`` serves."""
    browser_site = await asyncio.to_thread(_site)
    answer = await asyncio.to_thread(browser_site.answer, request.url.path) if browser_site else None
    if answer is None:
        raise HTTPException(404, "There is no such file.")
    return Response(answer[1], media_type=answer[0])


def _check_case(case: str) -> None:
    if case not in CASES:
        raise HTTPException(404, f"There is no use case '{case[:40]}'.")


async def _read_body(request: Request) -> bytes:
    """Read the body up to ``MAX_BYTES``; the Content-Length header is not trusted."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BYTES:
            raise HTTPException(413, f"The body is larger than {MAX_BYTES} bytes.")
        parts.append(part)
    return b"".join(parts)


def _lite_comparer(app: FastAPI) -> LiteComparer:
    if not hasattr(app.state, "lite_comparer"):
        app.state.lite_comparer = LiteComparer(app.state.home)
    return app.state.lite_comparer


def _site() -> site.Site | None:
    """The browser's files; None if ``make browser`` has not been run."""
    try:
        return site.Site({})
    except FileNotFoundError:
        return None


def _import_map() -> Markup:
    """The import map of the browser page, unchanged because the content security policy allows it by its hash."""
    (text,) = site.IMPORT_MAP.findall((site.HERE / "page" / "index.html").read_text())
    return Markup(text)


def _image_shape(request: Request, case: str) -> dict[str, int] | None:
    """Height, width and channels of the served version's input images; None if its input is not an image."""
    folder = rollouts.served_version(request.app.state.home, case)
    path = folder / site.EXTRA / "model.json" if folder else None
    if not CASES[case].picture or not path or not path.is_file():
        return None
    settings = json.loads(path.read_text())["settings"]
    return {name: int(settings[name]) for name in ("height", "width", "channels")}
