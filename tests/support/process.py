"""Query and kill processes."""

import os
import signal
from contextlib import suppress
from pathlib import Path


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return False


def list_children(pid: int) -> list[int]:
    """Return the process ids of the children of a process."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The program's name in brackets, which may contain spaces, precedes the state and the parent.
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                pids.append(int(path.parent.name))
    return pids


def kill_tree(pid: int) -> None:
    """Kill a process and its descendants; each is stopped before its children are listed, so that none is missed."""
    pending, stopped = [pid], []
    while pending:
        process = pending.pop()
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGSTOP)
            stopped.append(process)
            pending += list_children(process)
    for process in stopped:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
