"""The command that serves: model server and gateway in one process, until told to stop."""

import asyncio
import dataclasses
import json
import logging
import os
import signal
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from models import spans
from models.catalog import CASES, find
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataUnavailableError
from pipeline.monitoring import sidecar
from pipeline.online.rollouts import RUNNING, write_config
from serving import rollout
from serving.gateway.history import memory_checkpoint
from serving.gateway.history.memory import UnreachedError

log = logging.getLogger(__name__)


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
    lite: bool
    store: str = ""
    monitor: bool = True
    webhook: str = ""


def serve(asked: Asked, as_json: bool) -> None:
    """Serves until it is told to stop.

    Raises:
        ValueError: if there is nothing to serve.
        OSError: if a port or a folder cannot be had.
    """
    from serving.http import asyncio_server
    from serving.server import app

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "2"} | app.ENVIRONMENT | os.environ)
    asyncio_server.run(_serve(asked, as_json))


async def _serve(asked: Asked, as_json: bool) -> None:
    from serving.gateway.scoring import Options
    from serving.gateway.stack import Place, Settings, Stack
    from serving.server.app import Options as ServerOptions

    if asked.store:
        from serving.gateway.history.redis_client import client

        client(asked.store)  # an address that is none is refused before anything is loaded
    folders = {name: _versions(asked, name) for name in _servable(asked)}
    cases = {name: Place(_online(name), path, path.parent / "online") for name, path in folders.items()}
    write_config(asked.home)
    settings = Settings(
        cases,
        ServerOptions(host=asked.host, rest_port=asked.rest_port, grpc_port=asked.grpc_port, prefer_lite=asked.lite),
        asked.host,
        asked.port,
        asked.backend,
        Options(timeout=asked.timeout, rate=asked.rate),
        lambda name: arrived(asked.home, name),
        lambda name, online: seed(asked.home, name, online),
        asked.store,
    )
    beside = _beside(asked, [name for name, at in cases.items() if at.online is not None])
    # Two gateways of one home would have two memories; model servers may be as many as there are ports.
    with store.alone(asked.home / "serve.lock", "gateway") if asked.port is not None else nullcontext():
        await _until_told(asked, Stack(settings), beside, as_json)


def _beside(asked: Asked, names: list[str]) -> sidecar.Beside | None:
    """The monitor's process; None without a gateway, or where none is wanted."""
    if asked.webhook:
        from serving.drift.alert_sinks import Webhook

        Webhook(asked.webhook)  # a wrong address is told before anything starts
    wanted = asked.monitor and asked.port is not None and names
    return sidecar.Beside(asked.home, names, asked.webhook) if wanted else None


async def _until_told(asked: Asked, stack: Any, beside: sidecar.Beside | None, as_json: bool) -> None:
    stopped, running = asyncio.Event(), asked.home / RUNNING
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        await stack.start()
        told = _told(asked, stack)
        if stack.gateway:
            running.write_text(json.dumps(told, indent=1))
        if beside:
            sidecar.gauges(stack.gateway.metrics, asked.home, list(stack.gateway.scorers))
            beside.start()
        _announce(told, stack, as_json)
        await stopped.wait()
    finally:
        if stack.gateway:
            running.unlink(missing_ok=True)
        if beside:
            await beside.close()
        await stack.close()


def _servable(asked: Asked) -> list[str]:
    """The cases asked for, or all: one that is pushed for the first time later is served then."""
    there = [name for name in CASES if rollout.versions(_versions(asked, name))]
    if missing := [find(name).name for name in asked.cases if name not in there]:
        raise ValueError(f"No {missing[0]} has been pushed under {asked.home}; `showcase run {missing[0]}` makes one.")
    if not there:
        raise ValueError(
            f"Nothing has been pushed under {asked.home}; `showcase demo --home {asked.home}` makes models."
        )
    return list(asked.cases) or list(CASES)


def _versions(asked: Asked, name: str) -> Path:
    return Path(local_runtime(asked.home).versions(name))


def _online(name: str) -> Any:
    """The case's part of the gateway; None where it has none."""
    return find(name).load("online").online() if find(name).has("online") else None


def _told(asked: Asked, stack: Any) -> dict[str, Any]:
    host = "127.0.0.1" if asked.host in ("0.0.0.0", "::") else asked.host
    told = {"pid": os.getpid(), "host": host, "gateway": stack.port if stack.gateway else None}
    return told | {
        "rest": stack.app.rest_port or None if stack.app else None,
        "grpc": stack.app.grpc_port or None if stack.app else None,
    }


def _announce(told: dict[str, Any], stack: Any, as_json: bool) -> None:
    """Says where things are, on standard output, once all of it answers."""
    address = {name: f"{told['host']}:{told[name]}" for name in ("gateway", "rest", "grpc") if told[name]}
    urls = {name: at if name == "grpc" else f"http://{at}" for name, at in address.items()}
    versions = stack.loaded()
    if as_json:
        print(json.dumps({**urls, "models": versions}), flush=True)
        return
    console = Console(highlight=False)
    for name, version in versions.items():
        console.print(f"{name} version {version}", soft_wrap=True)
    for name, url in urls.items():
        console.print(f"{name:8} {url}", soft_wrap=True)
    console.print("Ctrl-C drains and ends", soft_wrap=True)


def arrived(home: Path, case: str) -> bool:
    """Whether the case's memory can be filled: a first push comes before its run's end, which says which spans it is of.

    A memory that has a checkpoint is not filled from spans, so nothing is asked: a gateway that is started again serves even
    while the metadata store does not answer.
    """
    runtime = local_runtime(home)
    if Path(runtime.root, case, "online", memory_checkpoint.FILE).exists():
        return True
    try:
        states = {run.state for run in store.runs(runtime.metadata, case)}
    except MetadataUnavailableError as error:
        log.warning("%s is not answered for yet: %s", case, error)
        return False
    return "pushed" in states or "running" not in states


def seed(home: Path, case: str, online: Any) -> int:
    """Puts the raw spans of the case's last pushed run into a memory; returns the number of rows.

    Raises:
        UnreachedError: if the metadata store does not answer; it may do so later.
    """
    try:
        pushed = [run for run in store.runs(local_runtime(home).metadata, case) if run.state == "pushed"]
    except MetadataUnavailableError as error:
        raise UnreachedError(str(error)) from error
    if not pushed or not online.remembers:
        return 0
    facts = pushed[-1].facts
    found = spans.window(Path(facts["source"]), *_window(facts["spans"]))
    return online.seed(map(str, found.values()), json.loads(facts["settings"])["data"])


def _window(text: str) -> tuple[int, int]:
    first, last = text.split(":")
    return int(first), int(last)
