"""The child processes of the demonstration: model server with gateway, and the tour at its end."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.local import processes
from pipeline.online import rollouts
from tour.demo.report import DemoReport

PORTS = {"--port": 8080, "--rest-port": 8501, "--grpc-port": 8500}
TOUR_PORT = 8600
PREFERRED = {"gateway": PORTS["--port"], "rest": PORTS["--rest-port"], "grpc": PORTS["--grpc-port"], "tour": TOUR_PORT}
LOOPBACK = "127.0.0.1"
REQUEST_TIMEOUT = 30  # seconds; generous, so that no request fails only because a training slows the server down

StartProcess = Callable[..., subprocess.Popen[str]]


@contextmanager
def serve_models(
    home: Path, report: DemoReport, start_process: StartProcess = processes.start, host: str = LOOPBACK
) -> Iterator[Mapping[str, Any]]:
    """Serve the home's models while the block runs.

    If a server of this home is running already, it is used and keeps running after the block. A port that another program
    uses is replaced by a free one, and the report names both.

    Args:
        home: Folder of all state.
        report: Where the addresses are printed, and stored for its summary.
        start_process: Starts ``showcase WORDS`` as a child process; see :func:`pipeline.local.processes.start`.
        host: Address that a new server listens on.

    Yields:
        Where the server listens: ``host``, ``gateway``, ``rest`` and ``grpc``.
    """
    if server := rollouts.find_running_server(home):
        report.addresses["gateway"] = (url := f"http://{server['host']}:{server['gateway']}"), ""
        report.print_line(f"Using the running gateway: {url}")
        yield server
        return
    log = home / "serve.log"
    ports = [word for option, port in PORTS.items() for word in (option, choose_port(port, host))]
    child = start_process(
        ["serve", "--home", home, "--host", host, *ports, "--timeout", REQUEST_TIMEOUT, "--json"], log
    )
    try:
        with report.time_part("Model server and gateway, in a child process"):
            addresses = read_addresses(child, log)
            for name in [name for name in PREFERRED if name in addresses]:
                report.addresses[name] = addresses[name], describe_other_port(name, addresses[name])
            report.print_addresses()
        yield rollouts.find_running_server(home) or {}
    finally:
        processes.end(child)
        stop_server(home)  # another process may have replaced the child by now


def read_addresses(child: subprocess.Popen[str], log: Path) -> dict[str, Any]:
    """Wait until a server answers and return the addresses that it prints.

    Raises:
        OSError: if the server ends without printing them.
    """
    line = processes.output(child).readline()
    if not line:
        raise OSError(f"The server ended with exit code {child.wait()}; see {log}.")
    return json.loads(line)


def describe_other_port(name: str, address: str) -> str:
    """Return why a server does not listen on its preferred port; empty if it does."""
    port = urlsplit(address if "//" in address else f"//{address}").port
    return "" if port == PREFERRED[name] else f"port {PREFERRED[name]} is in use"


def stop_server(home: Path, timeout: float = processes.GRACE) -> None:
    """Send SIGTERM to the running server of a home, if any, and wait at most ``timeout`` seconds for its end."""
    server, deadline = rollouts.find_running_server(home), time.monotonic() + timeout
    if server:
        with suppress(ProcessLookupError):
            os.kill(server["pid"], signal.SIGTERM)
    while server and rollouts.find_running_server(home) and time.monotonic() < deadline:
        time.sleep(0.1)


def show_tour(
    home: Path, report: DemoReport, start_process: StartProcess = processes.start, host: str = LOOPBACK
) -> None:
    """Show the tour of the served models in a child process until Ctrl-C; it listens on ``host``.

    Raises:
        OSError: if the tour does not start.
    """
    log = home / "tour.log"
    child = start_process(["tour", "--home", home, "--host", host, "--port", choose_port(TOUR_PORT, host)], log)
    try:
        line = processes.output(child).readline()
        if not line:
            raise OSError(f"The tour ended with exit code {child.wait()}; see {log}.")
        url = line.split()[0]
        report.addresses = {"tour": (url, describe_other_port("tour", url))} | report.addresses
        report.print_line("\nThe tour of the running system (Ctrl-C ends it)")
        report.print_addresses()
        child.wait()
    except KeyboardInterrupt:
        report.print_line(
            f"`showcase serve --home {home}` serves the models again, `showcase tour --home {home}` shows the tour."
        )
    finally:
        processes.end(child)


def choose_port(preferred: int, host: str = LOOPBACK) -> int:
    """Return the preferred port if a server could listen on it, otherwise 0, which lets the operating system choose one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, preferred), family=family).close()
    except OSError:
        return 0
    return preferred
