"""The tour as a web application: server-rendered pages over one home, with nothing from outside.

A page is a module here with a ``router``. Its functions find what they share in ``request.app.state``:

- ``home``: folder of all state; ``token``: what a change has to show, empty where none is needed;
- ``gateway()``: HOST:PORT of the gateway that serves this home now, empty where nothing is served;
- ``watch``: what is known of the home, see :mod:`tour.live.watch`; ``prover``: computes evidence, see
  :mod:`tour.web.prover`; ``page(request, "stage.html", active="Stages", ...)``: a template rendered as an answer.
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
from tour.web.pages import incidents, lineage_pages, presenter, question, stage, system, try_it
from tour.web.prover import Prover

HERE = Path(__file__).parent


def create(home: Path, gateway: str = "", token: str = "", hosts: tuple[str, ...] = ()) -> FastAPI:
    """The application.

    Args:
        home: Folder of all state.
        gateway: HOST:PORT of a gateway; empty for the one that serves the home, whenever there is one.
        token: What a request that changes something has to show; empty for none.
        hosts: Names, beside localhost, under which a browser may ask for the pages.
    """
    app = FastAPI(title="Showcase tour", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_lifespan)
    app.state.home, app.state.token = home, token
    app.state.gateway = (lambda: gateway) if gateway else partial(_gateway, home)
    app.state.watch, app.state.prover = HomeWatcher(home, app.state.gateway), Prover(home)
    app.state.page = rendering.Pages(NAV)
    for module in (system, stage, question, try_it, incidents, presenter, lineage_pages):
        app.include_router(module.router)
    app.add_api_route("/healthz", _healthy)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app.add_middleware(Guard, token=token, hosts=hosts)
    app.add_exception_handler(HTTPException, _refused)
    for kind in (MetadataUnavailableError, MetadataAddressError):
        app.add_exception_handler(kind, _without_metadata)
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


async def _healthy() -> Response:
    """For probes: no look at anything."""
    return Response("ok\n", media_type="text/plain")


async def _refused(request: Request, error: Exception) -> Response:
    """A page for people, JSON for a script."""
    assert isinstance(error, HTTPException), "the only kind that it is told of"
    if "text/html" not in request.headers.get("accept", "*/*"):
        return JSONResponse({"error": error.detail}, error.status_code)
    said = f"There is nothing at {request.url.path}." if error.detail == "Not Found" else error.detail
    return request.app.state.page(request, "error.html", status=error.status_code, code=error.status_code, said=said)


async def _without_metadata(request: Request, error: Exception) -> Response:
    """Says that the metadata store cannot be asked; the next request asks it again."""
    return await _refused(request, HTTPException(503, str(error)))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    # So that the first page need not wait for a look, nor the first question for all the code to be read.
    await app.state.watch.refresh()
    app.state.watch.start()
    reading = asyncio.create_task(asyncio.to_thread(notes.current))
    yield
    reading.cancel()
    await app.state.watch.close()
    await app.state.prover.close()


def _gateway(home: Path) -> str:
    """Where the gateway of this home listens; empty if none does."""
    told = rollouts.find_running_server(home)
    return f"{told['host']}:{told['gateway']}" if told and told["gateway"] else ""
