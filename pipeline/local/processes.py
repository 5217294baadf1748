"""Processes that a command starts beside itself: none outlives it, however it ends."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1
GRACE = 60.0  # seconds in which requests under way are answered


def start(words: Sequence[object], log: Path, module: str = "cli.main") -> subprocess.Popen[str]:
    """Starts ``showcase WORDS``, or another module's program: its output is a pipe, what it says beside goes to a log.

    It has a session of its own, so that Ctrl-C reaches the command alone, which then ends it in order; if the command is
    killed, the kernel ends it. That follows the thread that starts it, which has to live as long.
    """
    return _popen([sys.executable, "-m", module, *words], log, subprocess.PIPE)


def launch(command: Sequence[object], log: Path) -> subprocess.Popen[str]:
    """Starts any program likewise; all that it says goes to the log."""
    return _popen(command, log, None)


def _popen(command: Sequence[object], log: Path, output: int | None) -> subprocess.Popen[str]:
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with log.open("a") as said:
        return subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=output or said,
            stderr=said,
            text=True,
            env=environment,
            preexec_fn=_ends_with_parent,
            start_new_session=True,
        )


def output(child: subprocess.Popen[str]) -> IO[str]:
    """What a process that :func:`start` has started writes to its standard output."""
    assert child.stdout is not None, "start() makes a pipe of it"
    return child.stdout


def end(child: subprocess.Popen[str]) -> int:
    """Tells it to finish what is under way, and waits; its exit status."""
    with suppress(ProcessLookupError):
        child.send_signal(signal.SIGTERM)
    try:
        return child.wait(GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def end_all(children: Iterable[subprocess.Popen[str]]) -> None:
    """Tells all to finish at once, then waits for each."""
    for child in (told := list(children)):
        with suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
    for child in told:
        end(child)


def _ends_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
