"""The servers of the demonstration: model server and gateway in a process beside it."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import children, rollouts

if TYPE_CHECKING:
    from tour.demo.story import Story

PORTS = {"--port": 8080, "--rest-port": 8501, "--grpc-port": 8500}
TOUR = 8600
PATIENT = 30  # seconds for an answer, so that what fails has failed, and was not only slow beside a training


@contextmanager
def served(story: "Story") -> Iterator[Mapping[str, Any]]:
    """Serves the home's models; where a server of the home runs already, that one does it, and stays.

    Yields:
        Where it listens: ``host``, ``gateway``, ``rest`` and ``grpc``.
    """
    if there := rollouts.running(story.home):
        story.say(f"The gateway that runs already is used: http://{there['host']}:{there['gateway']}")
        yield there
        return
    words = [word for name, port in PORTS.items() for word in (name, port if free(port) else 0)]
    child = children.start(
        ["serve", "--home", story.home, *words, "--timeout", PATIENT, "--json"], story.home / "serve.log"
    )
    try:
        with story.part("Model server and gateway, in a process of their own"):
            told = ready(child, story.home / "serve.log")
            story.say("\n".join(f"{name:8} {where}" for name, where in told.items() if name != "models"))
        yield rollouts.running(story.home) or {}
    finally:
        children.end(child)
        ended(story.home)  # one that has taken the child's place


def ready(child: Any, log: Path) -> dict[str, Any]:
    """What a server says once it answers.

    Raises:
        OSError: if it ends before.
    """
    line = child.stdout.readline()
    if not line:
        raise OSError(f"The server has ended with status {child.wait()}; {log} has the whole story.")
    return json.loads(line)


def toured(story: "Story") -> None:
    """Shows the tour of what is served, in a process of its own, until Ctrl-C.

    Raises:
        OSError: if it does not start.
    """
    log = story.home / "tour.log"
    child = children.start(["tour", "--home", story.home, "--port", TOUR if free(TOUR) else 0], log)
    try:
        line = child.stdout.readline()
        if not line:
            raise OSError(f"The tour has ended with status {child.wait()}; {log} has the whole story.")
        story.say(f"\nThe tour, over what is served now: {line.strip()}")
        child.wait()
    except KeyboardInterrupt:
        story.say(
            f"`showcase serve --home {story.home}` serves it again, `showcase tour --home {story.home}` shows it."
        )
    finally:
        children.end(child)


def ended(home: Path, seconds: float = children.GRACE) -> None:
    """Has the server of a home end, if there is one, and waits for it."""
    there, until = rollouts.running(home), time.monotonic() + seconds
    with suppress(ProcessLookupError):
        if there:
            os.kill(there["pid"], signal.SIGTERM)
    while there and rollouts.running(home) and time.monotonic() < until:
        time.sleep(0.1)


def free(port: int) -> bool:
    """Whether a port of this machine can be had."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
