"""The tour's web application: server-rendered pages on one home, without external resources.

Each module in ``tour.web.pages`` has a ``router``. Route functions share ``request.app.state``:

- ``home``: folder of all state; ``token``: token that a request which changes something must carry, empty for none;
- ``gateway()``: HOST:PORT of the gateway that serves this home now, empty if none does;
- ``watch``: the state of the home, see :mod:`tour.live.watch`; ``prover``: computes evidence, see
  :mod:`tour.web.prover`; ``page(request, "stage.html", active="Stages", ...)``: renders a template as a response.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from pipeline.metadata.store_address import MetadataAddressError, MetadataUnavailableError
from pipeline.online import rollouts
from tour import notes
from tour.live.watch import HomeWatcher
from tour.web import rendering
from tour.web.guard import Guard
from tour.web.pages import break_it, lineage_pages, presenter, question, stage, system, try_it
from tour.web.prover import Prover

HERE = Path(__file__).parent


def create_app(home: Path, gateway: str = "", token: str = "", hosts: tuple[str, ...] = ()) -> FastAPI:
    """Create the application.

    Args:
        home: Folder of all state.
        gateway: HOST:PORT of a gateway; empty to look up the one that serves the home at each request.
        token: Token that a request which changes something must carry; empty for none.
        hosts: Host names, besides localhost, that a request may carry in its Host header.
    """
    app = FastAPI(title="Showcase tour", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_lifespan)
    app.state.home, app.state.token = home, token
    app.state.gateway = (lambda: gateway) if gateway else partial(_find_gateway, home)
    app.state.watch, app.state.prover = HomeWatcher(home, app.state.gateway), Prover(home)
    app.state.page = rendering.PageRenderer(NAV)
    for module in (system, stage, question, try_it, break_it, presenter, lineage_pages):
        app.include_router(module.router)
    app.add_api_route("/healthz", _check_health)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app.add_middleware(Guard, token=token, hosts=hosts)
    app.add_exception_handler(HTTPException, _render_error)
    for error_type in (MetadataUnavailableError, MetadataAddressError):
        app.add_exception_handler(error_type, _render_metadata_error)
    return app


NAV = (
    ("System", "/"),
    ("Stages", "/stages"),
    ("Questions", "/questions"),
    ("Try it", "/try"),
    ("Break it live", "/break"),
    ("Presenter", "/presenter"),
    ("Lineage", "/lineage"),
)


async def _check_health() -> Response:
    """Answer a liveness probe without any I/O."""
    return Response("ok\n", media_type="text/plain")


async def _render_error(request: Request, error: Exception) -> Response:
    """Render an error as a page for a browser, as JSON for a script."""
    assert isinstance(error, HTTPException), "registered for this type only"
    if "text/html" not in request.headers.get("accept", "*/*"):
        return JSONResponse({"error": error.detail}, error.status_code)
    text = f"There is no page at {request.url.path}." if error.detail == "Not Found" else error.detail
    return request.app.state.page(request, "error.html", status=error.status_code, code=error.status_code, text=text)


async def _render_metadata_error(request: Request, error: Exception) -> Response:
    """Answer 503 because the metadata store is unavailable; the next request tries it again."""
    return await _render_error(request, HTTPException(503, str(error)))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Read the home and the notes now, so that the first page and the first question need not wait for them.
    await app.state.watch.refresh()
    app.state.watch.start()
    notes_task = asyncio.create_task(asyncio.to_thread(notes.current))
    yield
    notes_task.cancel()
    await app.state.watch.close()
    await app.state.prover.close()


def _find_gateway(home: Path) -> str:
    """HOST:PORT of the gateway that serves this home; empty if none does."""
    server = rollouts.find_running_server(home)
    return f"{server['host']}:{server['gateway']}" if server and server["gateway"] else ""
