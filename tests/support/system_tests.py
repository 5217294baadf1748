"""Detect tests that start a process or open a port; they need the mark ``system``.

`make check` skips tests with the mark. A test without it fails if it starts a process or opens a port, so that the quick check
stays quick.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Fixtures that start something: a test that uses one is a system test.
FIXTURES = {"pushed_home", "default_home", "browser", "page", "tried_home", "tried_gateway", "s3_server"}
# Events of Python's audit hooks. A fork is how multiprocessing and Beam start workers.
EVENTS = {
    "subprocess.Popen": "started a process",
    "os.posix_spawn": "started a process",
    "os.fork": "started a process",
    "socket.bind": "opened a port",
}
# Python's `platform` asks it for the processor, once, when a library is imported that wants to know.
IGNORED = ["uname", "-p"]
_recordings: list[set[str]] = []
_hooked: list[bool] = []


@contextmanager
def record_events() -> Iterator[set[str]]:
    """Collect the events of the block that only a system test may cause."""
    if not _hooked:
        # An audit hook cannot be removed, so there is one for the whole process.
        sys.addaudithook(_record)
        _hooked.append(True)
    events: set[str] = set()
    _recordings.append(events)
    try:
        yield events
    finally:
        _recordings.pop()


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    if _recordings and event in EVENTS and not (event == "subprocess.Popen" and arguments[1] == IGNORED):
        _recordings[-1].add(EVENTS[event])
