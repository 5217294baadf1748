"""Incident *server*: kill -9 under traffic; the restarted server serves the same version, and no answer is lost."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import httpx

from models.use_case import UseCase
from pipeline.home import Home
from pipeline.online import rollouts
from serving.gateway.history.online_store import PREDICTIONS
from serving.gateway.log.log_files import read_log
from serving.gateway.log.tf_example import decode
from serving.http import asyncio_server
from tour.incidents import scratch
from tour.incidents.incident import IncidentEvent, IncidentFailedError, LiveSystem, MissingPrerequisiteError, wait_until
from tour.incidents.requests import ScoringClient, generate_bodies

RATE, CONNECTIONS = 40.0, 4
BEFORE, PATIENCE, AFTER = 40, 180.0, 40
ID = "served/id"


def run(live: LiveSystem) -> Iterator[IncidentEvent]:
    """Kill the server of this home under traffic, restart it with the same arguments, and check the log."""
    server = find_server(live)
    case = scratch.choose_cheapest_case(live.home)
    version, words, folder = (
        read_served_version(live, case),
        read_command_line(server),
        Path(f"/proc/{server['pid']}/cwd").resolve(),
    )
    rows = generate_bodies(case, scratch.find_last_pushed_run(live.home, case))
    requests = ScoringClient(f"{server['host']}:{server['gateway']}", case)
    yield IncidentEvent(f"Version {version} of {case.name} answers {RATE:.0f} requests per second on {live.gateway}.")
    stopped = threading.Event()
    until_stopped = takewhile(lambda row: not stopped.is_set(), rows)
    traffic = threading.Thread(
        target=asyncio_server.run, args=(requests.send_async(until_stopped, RATE, CONNECTIONS),), daemon=True
    )
    traffic.start()
    try:
        wait_until(lambda: len(requests.acknowledged) >= BEFORE, PATIENCE, "The server did not answer enough requests")
        os.kill(server["pid"], signal.SIGKILL)
        killed = time.monotonic()
        try:
            yield IncidentEvent(f"kill -9 {server['pid']}: the server is dead.", "bad", {"pid": server["pid"]})
        finally:
            process = restart_server(live, words, folder, server)
    finally:
        stopped.set()
        traffic.join()
    acknowledged = dict(requests.acknowledged)
    count = len(acknowledged)
    yield IncidentEvent(f"{count} predictions were acknowledged, then requests failed.", "bad", {"count": count})
    yield from _wait_for_restart(live, process, killed)
    yield from _check_log(live, case, acknowledged, version, rows)


def _wait_for_restart(live: LiveSystem, process: subprocess.Popen[bytes], killed: float) -> Iterator[IncidentEvent]:
    yield IncidentEvent(
        f"It is restarted with the same arguments, as process {process.pid}.", "info", {"pid": process.pid}
    )
    wait_until(
        lambda: process.poll() is not None or _is_ready(live, process.pid),
        PATIENCE,
        "The restarted server did not answer",
    )
    if process.poll() is not None:
        raise IncidentFailedError(f"The server does not restart; see {live.home / 'serve.log'}.")
    yield IncidentEvent(f"It answers again {time.monotonic() - killed:.1f} s after the kill.", "good")


def _check_log(
    live: LiveSystem, case: UseCase, acknowledged: dict[str, int], version: int, rows: Iterator[bytes]
) -> Iterator[IncidentEvent]:
    logged = {
        decode(record, (ID,))[ID][0].decode()
        for _, record in read_log(Home(live.home).case(case.name).online / PREDICTIONS)
    }
    missing = len(set(acknowledged) - logged)
    if missing:
        raise IncidentFailedError(f"{missing} of {len(acknowledged)} acknowledged predictions are not in the log.")
    yield IncidentEvent(f"All {len(acknowledged)} acknowledged predictions are in the log.", "good", {"missing": 0})
    server = find_server(live)
    requests = ScoringClient(f"{server['host']}:{server['gateway']}", case)
    report = requests.send(islice(rows, AFTER), RATE, CONNECTIONS)
    if report.failed or set(report.versions) != {version}:
        raise IncidentFailedError(
            f"{report.failed} of {report.sent} new requests failed; answers by version: {dict(report.versions)}."
        )
    yield IncidentEvent(
        f"{report.sent} new requests: none failed, all answered by version {version}.", "good", {"version": version}
    )


def undo(live: LiveSystem) -> Iterator[IncidentEvent]:
    """Report whether the server runs: the incident itself restarts it."""
    server = rollouts.find_running_server(live.home)
    if server and scratch.is_alive(server["pid"]):
        yield IncidentEvent(f"Nothing to undo: the server was restarted, as process {server['pid']}.", "good")
        return
    raise MissingPrerequisiteError(
        f"No server of {live.home} is running; start one with `showcase serve --home {live.home}`."
    )


def find_server(live: LiveSystem) -> dict[str, Any]:
    """Return the process id and addresses of the home's running server.

    Raises:
        MissingPrerequisiteError: if no server with a gateway runs.
    """
    server = rollouts.find_running_server(live.home)
    if not server or not server["gateway"] or not scratch.is_alive(server["pid"]):
        raise MissingPrerequisiteError(
            f"No gateway of {live.home} is running; start one with `showcase serve --home {live.home}`."
        )
    return server


def read_served_version(live: LiveSystem, case: UseCase) -> int:
    folder = rollouts.served_version(live.home, case.name)
    if folder is None:
        raise MissingPrerequisiteError(
            f"No version of {case.name} is served any more; push one with `showcase run {case.name}`."
        )
    return int(folder.name)


def read_command_line(server: dict[str, Any]) -> list[str]:
    """Return the command line of a server, with the ports that it listens on now in place of the requested ones."""
    arguments = Path(f"/proc/{server['pid']}/cmdline").read_bytes().decode().split("\0")[:-1]
    ports = {"--port": server["gateway"], "--rest-port": server["rest"] or -1, "--grpc-port": server["grpc"] or -1}
    return [*arguments, *(str(word) for option in ports.items() for word in option)]


def restart_server(live: LiveSystem, words: list[str], folder: Path, server: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start the server in its own session, so that it outlives the process that plays the incident."""
    wait_until(lambda: not scratch.is_alive(server["pid"]), 30, f"Process {server['pid']} did not end")
    with (live.home / "serve.log").open("a") as log:
        return subprocess.Popen(
            words, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
        )


def _is_ready(live: LiveSystem, pid: int) -> bool:
    server = rollouts.find_running_server(live.home)
    if not server or server["pid"] != pid:
        return False
    try:
        return httpx.get(f"http://{server['host']}:{server['gateway']}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
