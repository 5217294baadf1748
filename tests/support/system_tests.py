"""Which tests start a process, a server or a pipeline: those carry the mark ``system``, and `make check` leaves them out.

A test without the mark that does so fails, so that the quick check stays quick.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Events of Python's audit hooks. A fork is how multiprocessing and Beam start workers.
EVENTS = {
    "subprocess.Popen": "started a process",
    "os.posix_spawn": "started a process",
    "os.fork": "started a process",
    "socket.bind": "opened a port",
}
_watching: list[set[str]] = []
_installed = False


@contextmanager
def record_events() -> Iterator[set[str]]:
    """Collect what the code inside does that only a system test may do."""
    global _installed
    if not _installed:
        # An audit hook cannot be removed, so there is one for the whole process.
        sys.addaudithook(_hear)
        _installed = True
    events: set[str] = set()
    _watching.append(events)
    try:
        yield events
    finally:
        _watching.remove(events)


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in EVENTS:
        _watching[-1].add(EVENTS[event])
