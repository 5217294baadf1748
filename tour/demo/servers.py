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

from pipeline.local import processes
from pipeline.online import rollouts
from tour.demo.report import DemoReport

PORTS = {"--port": 8080, "--rest-port": 8501, "--grpc-port": 8500}
TOUR_PORT = 8600
LOOPBACK = "127.0.0.1"
REQUEST_TIMEOUT = 30  # seconds; generous, so that no request fails only because a training slows the server down

StartProcess = Callable[..., subprocess.Popen[str]]


@contextmanager
def serve_models(
    home: Path, report: DemoReport, start_process: StartProcess = processes.start, host: str = LOOPBACK
) -> Iterator[Mapping[str, Any]]:
    """Serve the home's models while the block runs.

    If a server of this home is running already, it is used and keeps running after the block.

    Args:
        home: Folder of all state.
        report: Where the addresses are printed.
        start_process: Starts ``showcase WORDS`` as a child process; see :func:`pipeline.local.processes.start`.
        host: Address that a new server listens on.

    Yields:
        Where the server listens: ``host``, ``gateway``, ``rest`` and ``grpc``.
    """
    if server := rollouts.find_running_server(home):
        report.print_line(f"Using the running gateway: http://{server['host']}:{server['gateway']}")
        yield server
        return
    log = home / "serve.log"
    ports = [word for option, port in PORTS.items() for word in (option, choose_port(port))]
    child = start_process(
        ["serve", "--home", home, "--host", host, *ports, "--timeout", REQUEST_TIMEOUT, "--json"], log
    )
    try:
        with report.time_part("Model server and gateway, in a child process"):
            addresses = read_addresses(child, log)
            report.print_line("\n".join(f"{name:8} {url}" for name, url in addresses.items() if name != "models"))
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
    child = start_process(["tour", "--home", home, "--host", host, "--port", choose_port(TOUR_PORT)], log)
    try:
        line = processes.output(child).readline()
        if not line:
            raise OSError(f"The tour ended with exit code {child.wait()}; see {log}.")
        report.print_line(f"\nThe tour of the running system (Ctrl-C ends it):\n{line.split()[0]}")
        child.wait()
    except KeyboardInterrupt:
        report.print_line(
            f"`showcase serve --home {home}` serves the models again, `showcase tour --home {home}` shows the tour."
        )
    finally:
        processes.end(child)


def choose_port(preferred: int) -> int:
    """Return the preferred port if it is free, otherwise 0, which lets the operating system choose one."""
    return preferred if is_port_free(preferred) else 0


def is_port_free(port: int) -> bool:
    """Return whether a server could listen on this port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
