"""Compute the evidence of questions on request, one at a time, in a warm worker process that can be killed."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tour.web.worker_process import WorkerProcess

BUDGET_SECONDS = 20.0  # time budget of one evidence function by this project's rules
TIMEOUT_SECONDS = 300.0  # includes the start of the worker process
MAX_WAITING = 4  # jobs in the queue
MAX_RESULTS = 64  # jobs whose results stay in memory


class QueueFullError(RuntimeError):
    """The queue of evidence jobs is full."""


@dataclass
class EvidenceJob:
    """A request for a question's evidence.

    Attributes:
        id: Id of the question.
        case: Use case whose last pushed run is used; None for the first case that has the evidence.
        state: ``waiting``, ``running``, ``done``, ``failed`` or ``stopped``.
        started: Monotonic time at which it started to run.
        seconds: How long it ran; 0 until it has ended.
        warm: Whether the worker process was running already when the job started.
        response: The worker's response.
        ended: Local time at which it ended, as HH:MM:SS.
    """

    id: str
    case: str | None
    state: str = "waiting"
    started: float = 0.0
    seconds: float = 0.0
    warm: bool = True
    response: Mapping[str, Any] = field(default_factory=dict)
    ended: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the job has ended, with or without a result."""
        return self.state not in ("waiting", "running")

    @property
    def elapsed(self) -> float:
        """Seconds that it has run so far, or ran in total."""
        return self.seconds or (time.monotonic() - self.started if self.state == "running" else 0.0)

    def end(self, state: str, response: Mapping[str, Any]) -> None:
        """Record the final state and the response."""
        self.seconds, self.response = self.elapsed, response
        self.state, self.ended = state, datetime.now().strftime("%H:%M:%S")


class Prover:
    """Queue of evidence jobs with one worker process; it stores the last job of each question.

    Attributes:
        timeout: Seconds after which a job is stopped.
        worker: The worker process, see :mod:`tour.web.evidence_worker`.
    """

    def __init__(self, home: Path, timeout: float = TIMEOUT_SECONDS) -> None:
        self.timeout = timeout
        self.worker = WorkerProcess("tour.web.evidence_worker", str(home.resolve()))
        self._jobs: OrderedDict[str, EvidenceJob] = OrderedDict()
        self._turn = asyncio.Lock()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def job(self, id_: str) -> EvidenceJob | None:
        """The last job of a question; None if there is none."""
        return self._jobs.get(id_)

    def submit(self, id_: str, case: str | None = None) -> EvidenceJob:
        """Queue a question; return its current job if that is waiting or running.

        Raises:
            QueueFullError: if the queue is full.
        """
        current = self._jobs.get(id_)
        if current and not current.is_over:
            return current
        if len(self._tasks) > MAX_WAITING:
            raise QueueFullError(f"The evidence of {MAX_WAITING} questions is waiting; try again when it is computed.")
        job = self._jobs[id_] = EvidenceJob(id_, case)
        self._jobs.move_to_end(id_)
        while len(self._jobs) > MAX_RESULTS:
            self._jobs.popitem(last=False)
        task = self._tasks[id_] = asyncio.get_running_loop().create_task(self._run(job))
        task.add_done_callback(lambda _: self._tasks.pop(id_, None))
        return job

    async def stop(self, id_: str) -> None:
        """Stop the job of a question if it is waiting or running."""
        job, task = self._jobs.get(id_), self._tasks.get(id_)
        if job and task and not job.is_over:
            job.end("stopped", {"error": "The computation was stopped before it ended.", "results": []})
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def close(self) -> None:
        for id_ in list(self._tasks):
            await self.stop(id_)
        await self.worker.kill()

    async def _run(self, job: EvidenceJob) -> None:
        async with self._turn:
            job.state, job.started, job.warm = "running", time.monotonic(), self.worker.process is not None
            try:
                response = await asyncio.wait_for(self.worker.request({"id": job.id, "case": job.case}), self.timeout)
                job.end("failed" if "error" in response else "done", response)
            except TimeoutError:
                await self.worker.kill()
                text = f"The computation did not end within {self.timeout:.0f} s and was stopped."
                job.end("failed", {"error": text, "results": []})
            except (OSError, ValueError) as error:
                await self.worker.kill()
                job.end("failed", {"error": str(error), "results": []})
            except asyncio.CancelledError:
                await self.worker.kill()  # a computation cannot be interrupted; the next job starts a new process
                raise
