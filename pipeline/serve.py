"""The command that serves: model server and gateway in one process, until told to stop."""

import asyncio
import dataclasses
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from models import spans
from models.catalog import CASES, find
from pipeline import runtime as runtimes
from pipeline import store
from pipeline.rollouts import RUNNING, write_config
from serving import rollout


@dataclasses.dataclass(frozen=True)
class Asked:
    """What ``showcase serve`` was asked for; ports of 0 are any free ones, None for none."""

    cases: Sequence[str]
    home: Path
    host: str
    port: int | None
    rest_port: int | None
    grpc_port: int | None
    backend: str
    rate: float
    timeout: float


def serve(asked: Asked) -> None:
    """Serves until it is told to stop.

    Raises:
        ValueError: if there is nothing to serve.
        OSError: if a port or a folder cannot be had.
    """
    from serving import http

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    http.run(_serve(asked))


async def _serve(asked: Asked) -> None:
    from serving.app import Options as ServerOptions
    from serving.scoring import Options
    from serving.stack import Place, Settings, Stack

    runtime, names = runtimes.local(asked.home), _servable(asked)
    folders = {name: Path(runtime.versions(name)) for name in names}
    cases = {
        name: Place(find(name).load("online").online(), folders[name], folders[name].parent / "online") for name in names
    }
    write_config(asked.home)
    settings = Settings(
        cases,
        ServerOptions(host=asked.host, rest_port=asked.rest_port, grpc_port=asked.grpc_port),
        asked.host,
        asked.port,
        asked.backend,
        Options(timeout=asked.timeout, rate=asked.rate),
        lambda name, scorer: seed(asked.home, name, scorer.online),
    )
    with store.alone(asked.home / "serve.lock", "server"):
        stack, stopped = Stack(settings), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        running = asked.home / RUNNING
        try:
            await stack.start()
            running.write_text(json.dumps(_told(asked, stack), indent=1))
            _announce(json.loads(running.read_text()))
            await stopped.wait()
        finally:
            running.unlink(missing_ok=True)
            await stack.close()


def _servable(asked: Asked) -> list[str]:
    runtime = runtimes.local(asked.home)
    names = [find(name).name for name in asked.cases] or list(CASES)
    there = [name for name in names if rollout.versions(Path(runtime.versions(name))) and find(name).has("online")]
    if missing := [name for name in asked.cases if name not in there]:
        raise ValueError(f"There is no pushed {missing[0]} under {asked.home}; `showcase run {missing[0]}` makes one.")
    if not there:
        raise ValueError(f"There is no pushed model under {asked.home}; `showcase demo` makes them.")
    return there


def _told(asked: Asked, stack: Any) -> dict[str, Any]:
    host = "127.0.0.1" if asked.host in ("0.0.0.0", "::") else asked.host
    told = {"pid": os.getpid(), "host": host, "gateway": stack.port if stack.gateway else None}
    return told | {"rest": stack.app.rest_port or None if stack.app else None,
                   "grpc": stack.app.grpc_port or None if stack.app else None}  # fmt: skip


def _announce(told: dict[str, Any]) -> None:
    console = Console(stderr=True)
    for name in ("gateway", "rest", "grpc"):
        if told[name]:
            scheme = "" if name == "grpc" else "http://"
            console.print(f"{name:8} {scheme}{told['host']}:{told[name]}", highlight=False)


def seed(home: Path, case: str, online: Any) -> int:
    """Puts the raw spans of the case's last pushed run into a memory; returns the number of rows."""
    pushed = [run for run in store.runs(runtimes.local(home).metadata, case) if run.state == "pushed"]
    if not pushed or not online.remembers:
        return 0
    facts = pushed[-1].facts
    found = spans.window(Path(facts["source"]), *_window(facts["spans"]))
    return online.seed(map(str, found.values()), json.loads(facts["settings"])["data"])


def _window(text: str) -> tuple[int, int]:
    first, last = text.split(":")
    return int(first), int(last)
