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
from pipeline.online import rollouts
from serving.gateway.history.online_store import PREDICTIONS
from serving.gateway.log.log_files import read
from serving.gateway.log.tf_example import decode
from serving.http import asyncio_server
from tour.incidents import scratch
from tour.incidents.incident import Event, FailedError, Live, MissingError, until
from tour.incidents.requests import Requests, bodies

RATE, CONNECTIONS = 40.0, 4
BEFORE, PATIENCE, AFTER = 40, 180.0, 40
ID = "served/id"


def run(live: Live) -> Iterator[Event]:
    """Kill the server of this home under traffic, restart it with the same arguments, and check the log."""
    server = running(live)
    case = scratch.cheapest(live.home)
    version, words, folder = version_of(live, case), command(server), Path(f"/proc/{server['pid']}/cwd").resolve()
    rows = bodies(case, scratch.last_pushed(live.home, case))
    requests = Requests(f"{server['host']}:{server['gateway']}", case)
    yield Event(f"Version {version} of {case.name} answers {RATE:.0f} requests per second on {live.gateway}.")
    stopped = threading.Event()
    until_stopped = takewhile(lambda row: not stopped.is_set(), rows)
    traffic = threading.Thread(
        target=asyncio_server.run, args=(requests.sending(until_stopped, RATE, CONNECTIONS),), daemon=True
    )
    traffic.start()
    try:
        until(lambda: len(requests.acknowledged) >= BEFORE, PATIENCE, "The server did not answer enough requests")
        os.kill(server["pid"], signal.SIGKILL)
        killed = time.monotonic()
        try:
            yield Event(f"kill -9 {server['pid']}: the server is dead.", "bad", {"pid": server["pid"]})
        finally:
            process = start(live, words, folder, server)
    finally:
        stopped.set()
        traffic.join()
    acknowledged = dict(requests.acknowledged)
    count = len(acknowledged)
    yield Event(f"{count} predictions were acknowledged, then requests failed.", "bad", {"count": count})
    yield from _wait_for_restart(live, process, killed)
    yield from _check_log(live, case, acknowledged, version, rows)


def _wait_for_restart(live: Live, process: subprocess.Popen[bytes], killed: float) -> Iterator[Event]:
    yield Event(f"It is restarted with the same arguments, as process {process.pid}.", "info", {"pid": process.pid})
    until(
        lambda: process.poll() is not None or _is_ready(live, process.pid),
        PATIENCE,
        "The restarted server did not answer",
    )
    if process.poll() is not None:
        raise FailedError(f"The server does not restart; see {live.home / 'serve.log'}.")
    yield Event(f"It answers again {time.monotonic() - killed:.1f} s after the kill.", "good")


def _check_log(
    live: Live, case: UseCase, acknowledged: dict[str, int], version: int, rows: Iterator[bytes]
) -> Iterator[Event]:
    logged = {
        decode(record, (ID,))[ID][0].decode() for _, record in read(live.home / case.name / "online" / PREDICTIONS)
    }
    missing = len(set(acknowledged) - logged)
    if missing:
        raise FailedError(f"{missing} of {len(acknowledged)} acknowledged predictions are not in the log.")
    yield Event(f"All {len(acknowledged)} acknowledged predictions are in the log.", "good", {"missing": 0})
    server = running(live)
    requests = Requests(f"{server['host']}:{server['gateway']}", case)
    report = requests.send(islice(rows, AFTER), RATE, CONNECTIONS)
    if report.failed or set(report.versions) != {version}:
        raise FailedError(
            f"{report.failed} of {report.sent} new requests failed; answers by version: {dict(report.versions)}."
        )
    yield Event(
        f"{report.sent} new requests: none failed, all answered by version {version}.", "good", {"version": version}
    )


def undo(live: Live) -> Iterator[Event]:
    """Report whether the server runs: the incident itself restarts it."""
    server = rollouts.running(live.home)
    if server and scratch.alive(server["pid"]):
        yield Event(f"Nothing to undo: the server was restarted, as process {server['pid']}.", "good")
        return
    raise MissingError(f"No server of {live.home} is running; start one with `showcase serve --home {live.home}`.")


def running(live: Live) -> dict[str, Any]:
    """Return the process id and addresses of the home's running server.

    Raises:
        MissingPrerequisiteError: if no server with a gateway runs.
    """
    server = rollouts.running(live.home)
    if not server or not server["gateway"] or not scratch.alive(server["pid"]):
        raise MissingError(f"No gateway of {live.home} is running; start one with `showcase serve --home {live.home}`.")
    return server


def version_of(live: Live, case: UseCase) -> int:
    """Return the number of the served version."""
    folder = rollouts.served_version(live.home, case.name)
    if folder is None:
        raise MissingError(f"No version of {case.name} is served any more; push one with `showcase run {case.name}`.")
    return int(folder.name)


def command(server: dict[str, Any]) -> list[str]:
    """Return the command line of a server, with the ports that it listens on now in place of the requested ones."""
    arguments = Path(f"/proc/{server['pid']}/cmdline").read_bytes().decode().split("\0")[:-1]
    ports = {"--port": server["gateway"], "--rest-port": server["rest"] or -1, "--grpc-port": server["grpc"] or -1}
    return [*arguments, *(str(word) for option in ports.items() for word in option)]


def start(live: Live, words: list[str], folder: Path, server: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start the server in its own session, so that it outlives the process that plays the incident."""
    until(lambda: not scratch.alive(server["pid"]), 30, f"Process {server['pid']} did not end")
    with (live.home / "serve.log").open("a") as log:
        return subprocess.Popen(
            words, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
        )


def _is_ready(live: Live, pid: int) -> bool:
    server = rollouts.running(live.home)
    if not server or server["pid"] != pid:
        return False
    try:
        return httpx.get(f"http://{server['host']}:{server['gateway']}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
