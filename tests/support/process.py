"""Processes that tests look at."""

import os
import signal
from contextlib import suppress
from pathlib import Path


def alive(pid: int) -> bool:
    with suppress(OSError):
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return False


def children(pid: int) -> list[int]:
    """Process ids of the children of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The program's name comes first, in brackets, and may hold blanks; then the state and the parent.
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


def kill_tree(pid: int) -> None:
    """Kills a process and its descendants; each is stopped before its children are listed, so that none is missed."""
    waiting, found = [pid], []
    while waiting:
        process = waiting.pop()
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGSTOP)
            found.append(process)
            waiting += children(process)
    for process in found:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
