"""Child processes of a command: they end with it, even if it is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

from models.training.distribute.local_processes import end_with_parent

GRACE = 60.0  # seconds to finish requests in progress


def start(arguments: Sequence[object], log: Path, module: str = "cli.main") -> subprocess.Popen[str]:
    """Start ``showcase ARGUMENTS``, or another module: standard output is a pipe, standard error goes to a log.

    The child has its own session, so that Ctrl-C reaches only the command, which then ends the child in order. If the
    command is killed, the kernel ends the child. The kernel watches the thread that starts the child, so that thread has to
    live as long as the child.
    """
    return _popen([sys.executable, "-m", module, *arguments], log, subprocess.PIPE)


def launch(command: Sequence[object], log: Path) -> subprocess.Popen[str]:
    """Start any program in the same way; standard output and standard error go to the log."""
    return _popen(command, log, None)


def _popen(command: Sequence[object], log: Path, output: int | None) -> subprocess.Popen[str]:
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with log.open("a") as log_stream:
        return subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=output or log_stream,
            stderr=log_stream,
            text=True,
            env=environment,
            preexec_fn=partial(end_with_parent, signal.SIGTERM),
            start_new_session=True,
        )


def output(child: subprocess.Popen[str]) -> IO[str]:
    """Return the standard output of a process that was started by :func:`start`."""
    assert child.stdout is not None, "start() opens a pipe"
    return child.stdout


def end(child: subprocess.Popen[str]) -> int:
    """Send SIGTERM, wait for the process to finish its work, and return its exit code; kill it after ``GRACE`` seconds."""
    with suppress(ProcessLookupError):
        child.send_signal(signal.SIGTERM)
    try:
        return child.wait(GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def end_all(children: Iterable[subprocess.Popen[str]]) -> None:
    """Send SIGTERM to all processes, then wait for each."""
    for child in (ending := list(children)):
        with suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
    for child in ending:
        end(child)
