"""Processes on this machine: they end with their parent, and listen on free ports."""

import ctypes
import signal
import socket
from contextlib import ExitStack

PR_SET_PDEATHSIG = 1


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Ask the kernel to send this process a signal when its parent's thread ends for any reason.

    A killed process runs no cleanup, so its children would survive it. Linux only.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def find_free_ports(count: int, host: str = "localhost") -> list[int]:
    """Return free ports; all sockets stay open until the last is found, so that the ports differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind((host, 0))
        return [opened.getsockname()[1] for opened in sockets]
