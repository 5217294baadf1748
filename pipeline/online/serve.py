"""Serve models: model server and gateway in one process until SIGTERM or SIGINT."""

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

from models import spans
from models.catalog import CASES, find_use_case
from pipeline.home import Home
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataUnavailableError
from pipeline.monitoring import sidecar
from pipeline.online.address import parse_address
from pipeline.online.rollouts import SERVER_RECORD_FILE, write_config
from pipeline.terminal import make_console
from serving import rollout
from serving.gateway.history import memory_checkpoint
from serving.gateway.history.memory import StoreUnavailableError

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ServeOptions:
    """Options of ``showcase serve``; port 0 means any free port, None disables the server.

    With ``wait`` the servers start although nothing is pushed, and serve each case from its first push on.
    """

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
    lite_raw: bool
    store: str = ""
    monitor: bool = True
    webhook: str = ""
    wait: bool = False


def serve(options: ServeOptions, as_json: bool) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ValueError: if there is nothing to serve.
        OSError: if a port or a folder is not available.
    """
    from serving.http import asyncio_server
    from serving.server import app

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    os.environ.update(app.ENVIRONMENT | os.environ)
    asyncio_server.run(_serve(options, as_json))


async def _serve(options: ServeOptions, as_json: bool) -> None:
    from serving.gateway.scoring import ScoringOptions
    from serving.gateway.stack import ServedCase, Stack, StackSettings
    from serving.server.app import ServerOptions as ServerOptions

    if options.backend:
        parse_address("--backend", options.backend)  # raises for an invalid address before a model is loaded
    if options.store:
        from serving.gateway.history.redis_client import make_client

        make_client(options.store)
    folders = {name: _versions_folder(options, name) for name in _servable(options)}
    cases = {name: ServedCase(_load_online(name), path, path.parent / "online") for name, path in folders.items()}
    write_config(options.home)
    settings = StackSettings(
        cases=cases,
        server=ServerOptions(
            host=options.host,
            rest_port=options.rest_port,
            grpc_port=options.grpc_port,
            prefer_lite=options.lite,
            lite_raw=options.lite_raw,
        ),
        host=options.host,
        port=options.port,
        backend=options.backend,
        options=ScoringOptions(timeout=options.timeout, rate=options.rate),
        can_fill=lambda name: can_fill_memory(options.home, name),
        seed=lambda name, online: fill_memory(options.home, name, online),
        store=options.store,
    )
    monitor = _make_monitor(options, [name for name, case_place in cases.items() if case_place.online is not None])
    # Two gateways of one home would diverge in their online history; there is no limit on model servers without a gateway.
    with store.exclusive_lock(options.home / "serve.lock", "gateway") if options.port is not None else nullcontext():
        await _run_until_signal(options, Stack(settings), monitor, as_json)


def _make_monitor(options: ServeOptions, names: list[str]) -> sidecar.MonitorProcess | None:
    """Return the monitor's process; None without a gateway or if monitoring is off."""
    if options.webhook:
        from serving.drift.alert_sinks import Webhook

        Webhook(options.webhook)  # raises for an invalid address before anything starts
    is_wanted = options.monitor and options.port is not None and names
    return sidecar.MonitorProcess(options.home, names, options.webhook) if is_wanted else None


async def _run_until_signal(
    options: ServeOptions, stack: Any, monitor: sidecar.MonitorProcess | None, as_json: bool
) -> None:
    stop_requested, record_path = asyncio.Event(), options.home / SERVER_RECORD_FILE
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop_requested.set)
    try:
        await stack.start()
        server_record = _server_record(options, stack)
        if stack.gateway:
            record_path.write_text(json.dumps(server_record, indent=1))
        if monitor:
            sidecar.export_gauges(stack.gateway.metrics, options.home, list(stack.gateway.scorers))
            monitor.start()
        _announce(server_record, stack, as_json)
        await stop_requested.wait()
    finally:
        if stack.gateway:
            record_path.unlink(missing_ok=True)
        if monitor:
            await monitor.close()
        await stack.close()


def _servable(options: ServeOptions) -> list[str]:
    """Return the requested cases, or all; with all, a case whose first push comes later is served from then on.

    Raises:
        ValueError: if a requested case has no pushed version, or no case has one.
    """
    pushed_cases = [name for name in CASES if rollout.list_versions(_versions_folder(options, name))]
    if options.wait:
        return list(options.cases) or list(CASES)
    if missing := [find_use_case(name).name for name in options.cases if name not in pushed_cases]:
        raise ValueError(
            f"No version of {missing[0]} has been pushed under {options.home}; `showcase run {missing[0]}` pushes one."
        )
    if not pushed_cases:
        raise ValueError(
            f"Nothing has been pushed under {options.home}; `showcase demo --home {options.home}` trains models."
        )
    return list(options.cases) or list(CASES)


def _versions_folder(options: ServeOptions, name: str) -> Path:
    return Home(options.home).case(name).versions


def _load_online(name: str) -> Any:
    """Return the case's online features and history for the gateway; None if it has none."""
    return find_use_case(name).load("online_requests").online() if find_use_case(name).has("online_requests") else None


def _server_record(options: ServeOptions, stack: Any) -> dict[str, Any]:
    host = "127.0.0.1" if options.host in ("0.0.0.0", "::") else options.host
    record = {"pid": os.getpid(), "host": host, "gateway": stack.port if stack.gateway else None}
    return record | {
        "rest": stack.app.rest_port or None if stack.app else None,
        "grpc": stack.app.grpc_port or None if stack.app else None,
    }


def _announce(server_record: dict[str, Any], stack: Any, as_json: bool) -> None:
    """Print addresses and versions to standard output once all servers are ready."""
    address = {
        name: f"{server_record['host']}:{server_record[name]}"
        for name in ("gateway", "rest", "grpc")
        if server_record[name]
    }
    urls = {name: host_port if name == "grpc" else f"http://{host_port}" for name, host_port in address.items()}
    versions = stack.loaded()
    if as_json:
        print(json.dumps({**urls, "models": versions}), flush=True)
        return
    console = make_console()
    for name, version in versions.items():
        console.print(f"{name} version {version}", soft_wrap=True)
    for name, url in urls.items():
        console.print(f"{name:8} {url}", soft_wrap=True)
    console.print("Ctrl-C drains open requests and exits", soft_wrap=True)


def can_fill_memory(home: Path, case: str) -> bool:
    """Whether the case's online history can be filled from its last pushed run.

    A first push happens before its run ends, and only the ended run's record names the spans. An online history with a
    checkpoint is not filled from spans, so the metadata store is not queried: a restarted gateway serves even while the
    store does not answer.
    """
    runtime = local_runtime(home)
    if (runtime.case(case).online / memory_checkpoint.FILE).exists():
        return True
    try:
        states = {run.state for run in store.runs(runtime.metadata, case)}
    except MetadataUnavailableError as error:
        log.warning("the online history of %s cannot be filled yet: %s", case, error)
        return False
    return "pushed" in states or "running" not in states


def fill_memory(home: Path, case: str, online: Any) -> int:
    """Load the raw spans of the case's last pushed run into the online history; return the number of rows.

    Raises:
        StoreUnavailableError: if the metadata store does not answer; the caller may retry.
    """
    try:
        pushed = Home(home).pushed_runs(case)
    except MetadataUnavailableError as error:
        raise StoreUnavailableError(str(error)) from error
    if not pushed or not online.has_history:
        return 0
    facts = pushed[-1].facts
    window = spans.select_window(Path(facts["source"]), *_window(facts["spans"]))
    return online.seed(map(str, window.values()), json.loads(facts["settings"])["data"])


def _window(text: str) -> tuple[int, int]:
    first, last = text.split(":")
    return int(first), int(last)
