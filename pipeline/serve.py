"""Serves what the runs of a home have pushed, until it is told to stop."""

import json
import logging
import os
from pathlib import Path

from rich.console import Console

from models.catalog import CASES
from pipeline import runtime as runtimes
from serving import app, http
from serving.config import Model


def serve(home: Path, host: str, rest_port: int, grpc_port: int, lite: bool, as_json: bool) -> None:
    """Loads the pushed models and answers; a case that is pushed for the first time later is served then.

    Raises:
        ValueError: if nothing has been pushed.
        OSError: if a port cannot be had.
    """
    models = pushed(home)
    if not any(Path(model.base_path).is_dir() for model in models):
        raise ValueError(f"Nothing has been pushed under {home}; `showcase run fraud --home {home}` makes a model.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    options = app.Options(models, host=host, rest_port=rest_port, grpc_port=grpc_port, prefer_lite=lite)
    http.run(app.run(options, lambda running: _announce(running, as_json)))


def pushed(home: Path) -> list[Model]:
    """A model a case, where the Pusher puts its versions."""
    return [Model(name, runtimes.local(home).versions(name)) for name in CASES]


def _announce(running: app.App, as_json: bool) -> None:
    rest = f"http://{running.options.host}:{running.rest_port}"
    known = [model.name for model in running.options.models if running.engine.manager.loaded(model.name)]
    if as_json:
        versions = {name: running.engine.servable(name).version for name in known}
        print(
            json.dumps({"rest": rest, "grpc": f"{running.options.host}:{running.grpc_port}", "models": versions}),
            flush=True,
        )
        return
    console = Console(highlight=False)
    for name in known:
        console.print(
            f"{name} version {running.engine.servable(name).version}: {rest}/v1/models/{name}", soft_wrap=True
        )
    metrics = f"metrics {rest}{running.options.metrics_path}"
    console.print(f"gRPC {running.options.host}:{running.grpc_port}, {metrics}; Ctrl-C drains and ends", soft_wrap=True)
