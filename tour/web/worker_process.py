"""A process that answers requests, one JSON line each: the web server's side and the process's own side.

The web server's process never imports TensorFlow; what needs it runs in such a process.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from models.training.distribute.local_processes import end_with_parent
from pipeline.checkout import ROOT

MAX_LINE_BYTES = 64 << 20


class WorkerProcess:
    """The web server's side: one request at a time.

    Attributes:
        command: Command of the process, which calls :func:`answer_requests`.
        process: The process; None while none runs.
    """

    def __init__(self, *command: str) -> None:
        self.command: Sequence[str] = (sys.executable, "-m", *command)
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> asyncio.subprocess.Process:
        """Start the process if none runs, and return it."""
        if self.process is None or self.process.returncode is not None:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=ROOT,
                limit=MAX_LINE_BYTES,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        return self.process

    async def request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response. If this is cancelled, kill the process, which would otherwise answer the next request.

        Raises:
            ValueError: if the process ended without a response.
        """
        process = await self.start()
        assert process.stdin and process.stdout, "both are pipes"
        process.stdin.write(json.dumps(request).encode() + b"\n")
        line = await process.stdout.readline()
        if not line:
            raise ValueError(f"The worker process ended with exit code {await process.wait()}.")
        return json.loads(line)

    async def kill(self) -> None:
        """Kill the process if one runs; the next request starts another."""
        process, self.process = self.process, None
        if process and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def answer_requests(answer: Callable[[dict[str, Any]], Mapping[str, Any]], nice: int) -> None:
    """The process's side: answer requests from standard input until it ends.

    Args:
        answer: Called with each request; returns the response.
        nice: Niceness to run at, if it is not nicer already: the server and the gateway come first.
    """
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpriority(os.PRIO_PROCESS, 0, max(nice, os.getpriority(os.PRIO_PROCESS, 0)))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Libraries print to standard output, so file descriptor 1 is redirected and responses use a copy of it.
    responses = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        responses.write(json.dumps(answer(json.loads(line)), default=str) + "\n")
