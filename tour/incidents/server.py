"""A killed server: kill -9 under traffic; the next process answers with the same version, and the log holds every answer."""

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
    """Kills the server of this home while it answers, starts it again by the same words, and counts."""
    there = running(live)
    case = scratch.cheapest(live.home)
    version, words, folder = version_of(live, case), command(there), Path(f"/proc/{there['pid']}/cwd").resolve()
    rows = bodies(case, scratch.last_pushed(live.home, case))
    requests = Requests(f"{there['host']}:{there['gateway']}", case)
    yield Event(f"Version {version} of {case.name} answers {RATE:.0f} requests a second on {live.gateway}.")
    stopped = threading.Event()
    until_stopped = takewhile(lambda row: not stopped.is_set(), rows)
    traffic = threading.Thread(
        target=asyncio_server.run, args=(requests.sending(until_stopped, RATE, CONNECTIONS),), daemon=True
    )
    traffic.start()
    try:
        until(lambda: len(requests.acknowledged) >= BEFORE, PATIENCE, "The server has not answered so many requests")
        os.kill(there["pid"], signal.SIGKILL)
        killed = time.monotonic()
        try:
            yield Event(f"kill -9 {there['pid']}: the server is gone.", "bad", {"pid": there["pid"]})
        finally:
            started = start(live, words, folder, there)
    finally:
        stopped.set()
        traffic.join()
    acknowledged = dict(requests.acknowledged)
    count = len(acknowledged)
    yield Event(f"{count} predictions were acknowledged, then requests failed.", "bad", {"count": count})
    yield from _again(live, case, started, killed)
    yield from _proven(live, case, acknowledged, version, rows)


def _again(live: Live, case: UseCase, started: subprocess.Popen[bytes], killed: float) -> Iterator[Event]:
    yield Event(f"It is started again by the same words, as process {started.pid}.", "info", {"pid": started.pid})
    until(
        lambda: started.poll() is not None or _ready(live, started.pid), PATIENCE, "The server has not answered again"
    )
    if started.poll() is not None:
        raise FailedError(f"The server does not start again; {live.home / 'serve.log'} has the whole story.")
    yield Event(f"It answers again {time.monotonic() - killed:.1f} s after the kill.", "good")


def _proven(
    live: Live, case: UseCase, acknowledged: dict[str, int], version: int, rows: Iterator[bytes]
) -> Iterator[Event]:
    logged = {decode(one, (ID,))[ID][0].decode() for _, one in read(live.home / case.name / "online" / PREDICTIONS)}
    missing = len(set(acknowledged) - logged)
    if missing:
        raise FailedError(f"{missing} of {len(acknowledged)} acknowledged predictions are not in the log.")
    yield Event(f"All {len(acknowledged)} acknowledged predictions are in the log.", "good", {"missing": 0})
    there = running(live)
    again = Requests(f"{there['host']}:{there['gateway']}", case)
    report = again.send(islice(rows, AFTER), RATE, CONNECTIONS)
    if report.failed or set(report.versions) != {version}:
        raise FailedError(
            f"{report.failed} of {report.sent} requests failed, answered by versions {dict(report.versions)}."
        )
    yield Event(
        f"{report.sent} new requests: none failed, all answered by version {version}.", "good", {"version": version}
    )


def undo(live: Live) -> Iterator[Event]:
    """The server has been started again already, unless it could not."""
    there = rollouts.running(live.home)
    if there and scratch.alive(there["pid"]):
        yield Event(f"The server runs again already, as process {there['pid']}: nothing is left to take back.", "good")
        return
    raise MissingError(f"No server of {live.home} runs; `showcase serve --home {live.home}` starts one.")


def running(live: Live) -> dict[str, Any]:
    """What the home's server has told of itself.

    Raises:
        MissingError: if none runs, or none with a gateway.
    """
    there = rollouts.running(live.home)
    if not there or not there["gateway"] or not scratch.alive(there["pid"]):
        raise MissingError(f"Nothing of {live.home} is served; `showcase serve --home {live.home}` does it.")
    return there


def version_of(live: Live, case: UseCase) -> int:
    """Number of the version that answers."""
    folder = rollouts.served_version(live.home, case.name)
    if folder is None:
        raise MissingError(f"No version of {case.name} is served any more.")
    return int(folder.name)


def command(there: dict[str, Any]) -> list[str]:
    """The words that started a server, and the ports that it has now, which count more than those asked for."""
    words = Path(f"/proc/{there['pid']}/cmdline").read_bytes().decode().split("\0")[:-1]
    ports = {"--port": there["gateway"], "--rest-port": there["rest"] or -1, "--grpc-port": there["grpc"] or -1}
    return [*words, *(str(word) for pair in ports.items() for word in pair)]


def start(live: Live, words: list[str], folder: Path, there: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Starts the server in a session of its own: it goes on when whoever has killed it ends."""
    until(lambda: not scratch.alive(there["pid"]), 30, f"Process {there['pid']} has not ended")
    with (live.home / "serve.log").open("a") as log:
        return subprocess.Popen(
            words, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
        )


def _ready(live: Live, pid: int) -> bool:
    there = rollouts.running(live.home)
    if not there or there["pid"] != pid:
        return False
    try:
        return httpx.get(f"http://{there['host']}:{there['gateway']}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
