"""A version that is asked beside the one that answers, and heard by nobody but the log."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.errors import ServingError
from serving.gateway.backend import Answered, Backend
from serving.gateway.gateway_metrics import Metrics
from serving.gateway.log.prediction_log import Limits, PredictionLog, UnwrittenError
from serving.gateway.log.tf_example import example
from serving.gateway.prediction_record import scored
from serving.rollout import SHADOW

MOST = 64  # requests at a time; more are left out, so that a slow shadow costs the answers nothing


class Shadow:
    """One case's shadow requests. Open it before use and close it after.

    Args:
        name: The case.
        backend: Who is asked.
        told: The case's answers to what the backend has answered.
        folder: Where the log lies.
        limits: The log's.
        timeout: Seconds that the backend has for an answer.
        metrics: Where outcomes are counted.
    """

    def __init__(
        self,
        name: str,
        backend: Backend,
        told: Callable[[Answered], Sequence[Mapping[str, Any]]],
        folder: Path,
        limits: Limits,
        timeout: float,
        metrics: Metrics,
    ) -> None:
        self.name, self.backend, self.metrics = name, backend, metrics
        self.log = PredictionLog(folder, limits)
        self._told, self._timeout = told, timeout
        self._asked: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Takes the folder."""
        self.log.open()

    def ask(self, identity: str, entries: bytes, score: float, version: int) -> None:
        """Has a version answer what was answered with that score already; nobody waits for it."""
        if len(self._asked) >= MOST:
            self.metrics.shadows.labels(self.name, "left out").inc()
            return
        task = asyncio.get_running_loop().create_task(self._ask(identity, entries, score, version))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def close(self) -> None:
        """Lets go of what is under way, and writes what was answered."""
        for task in list(self._asked):
            task.cancel()
        await self.log.close()

    async def _ask(self, identity: str, entries: bytes, score: float, version: int) -> None:
        outcome = "failed"
        try:
            answered = await self.backend.predict(self.name, [example(entries)], version, self._timeout)
            (told,) = self._told(answered)
            self.metrics.difference.labels(self.name).observe(abs(told["score"] - score))
            await self.log.append(example(entries, scored(identity, "", answered, SHADOW, told, "")))
            outcome = "answered"
        except (ServingError, UnwrittenError):
            pass  # noqa: SIM105 (counted below)
        finally:
            self.metrics.shadows.labels(self.name, outcome).inc()
