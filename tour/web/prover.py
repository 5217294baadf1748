"""Evidence computed on request, one piece at a time, in a process that is kept warm and can be ended at any moment."""

import asyncio
import contextlib
import json
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.checkout import ROOT

BUDGET = 20.0  # seconds that a piece of evidence may take by this project's own rule
LIMIT = 300.0  # seconds after which it is given up, the start of the process included
WAITING = 4  # pieces that may wait for their turn
TOLD = 64  # results that are kept
LINE = 64 << 20


class BusyError(RuntimeError):
    """Enough is waiting already."""


@dataclass
class Job:
    """A piece of evidence that somebody asked for.

    Attributes:
        id: The question.
        case: Whose run; None for the first that has the evidence.
        state: waiting, running, done, failed or stopped.
        began: When it got its turn, on a clock that only goes forward.
        seconds: How long it took; 0 until it is over.
        warm: Whether the process was there when it got its turn.
        told: What came of it.
        at: When it was over, on the wall.
    """

    id: str
    case: str | None
    state: str = "waiting"
    began: float = 0.0
    seconds: float = 0.0
    warm: bool = True
    told: Mapping[str, Any] = field(default_factory=dict)
    at: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.state not in ("waiting", "running")

    @property
    def spent(self) -> float:
        """Seconds so far, or in all."""
        return self.seconds or (time.monotonic() - self.began if self.state == "running" else 0.0)

    def end(self, state: str, told: Mapping[str, Any]) -> None:
        """Is over."""
        self.seconds, self.told = self.spent, told
        self.state, self.at = state, datetime.now().strftime("%H:%M:%S")


class Prover:
    """Takes questions, and keeps the last result of each.

    Attributes:
        limit: Seconds after which one is given up.
        command: What computes: a line in for a question, a line out for what came of it.
        process: The process that does, while there is one.
    """

    def __init__(self, home: Path, limit: float = LIMIT, command: Sequence[str] = ()) -> None:
        self.limit = limit
        self.command = command or (sys.executable, "-m", "tour.web.worker", str(home.resolve()))
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._turn = asyncio.Lock()
        self.process: asyncio.subprocess.Process | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def job(self, id_: str) -> Job | None:
        """The last one for that question."""
        return self._jobs.get(id_)

    def ask(self, id_: str, case: str | None = None) -> Job:
        """Has the evidence computed; a question that waits or runs already is not asked twice.

        Raises:
            BusyError: if enough is waiting.
        """
        there = self._jobs.get(id_)
        if there and not there.over:
            return there
        if len(self._tasks) > WAITING:
            raise BusyError(f"{WAITING} questions wait for their evidence already; ask again when they are done.")
        job = self._jobs[id_] = Job(id_, case)
        self._jobs.move_to_end(id_)
        while len(self._jobs) > TOLD:
            self._jobs.popitem(last=False)
        task = self._tasks[id_] = asyncio.get_running_loop().create_task(self._prove(job))
        task.add_done_callback(lambda _: self._tasks.pop(id_, None))
        return job

    async def stop(self, id_: str) -> None:
        """Ends the computing of a question's evidence, if it is under way or waits."""
        job, task = self._jobs.get(id_), self._tasks.get(id_)
        if job and task and not job.over:
            job.end("stopped", {"error": "It was stopped before it was done.", "results": []})
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def close(self) -> None:
        """Ends the process."""
        for id_ in list(self._tasks):
            await self.stop(id_)
        await self._end()

    async def _prove(self, job: Job) -> None:
        async with self._turn:
            job.state, job.began, job.warm = "running", time.monotonic(), self.process is not None
            try:
                told = await asyncio.wait_for(self._computed(job), self.limit)
                job.end("failed" if "error" in told else "done", told)
            except TimeoutError:
                await self._end()
                job.end("failed", {"error": f"It was not done after {self.limit:.0f} s and was ended.", "results": []})
            except (OSError, ValueError) as error:
                await self._end()
                job.end("failed", {"error": str(error), "results": []})
            except asyncio.CancelledError:
                await self._end()  # what computes cannot be told to stop; the next question starts a new process
                raise

    async def _computed(self, job: Job) -> Mapping[str, Any]:
        if self.process is None or self.process.returncode is not None:
            pipe, root = asyncio.subprocess.PIPE, ROOT
            self.process = await asyncio.create_subprocess_exec(
                *self.command, cwd=root, limit=LINE, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL
            )
        assert self.process.stdin and self.process.stdout, "both are pipes"
        self.process.stdin.write(json.dumps({"id": job.id, "case": job.case}).encode() + b"\n")
        line = await self.process.stdout.readline()
        if not line:
            raise ValueError(f"The process that computes ended with status {await self.process.wait()}.")
        return json.loads(line)

    async def _end(self) -> None:
        process, self.process = self.process, None
        if process and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
