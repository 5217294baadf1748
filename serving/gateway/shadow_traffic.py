"""Shadow traffic: a second version scores the same requests; its answers go to a log only, never to a client."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.gateway.gateway_metrics import GatewayMetrics
from serving.gateway.log.prediction_log import LogLimits, LogWriteError, PredictionLog
from serving.gateway.log.prediction_record import describe_prediction
from serving.gateway.log.tf_example import encode_example
from serving.gateway.model_calls.backend import Backend, PredictResult
from serving.rollout import SHADOW
from serving.status_errors import ServingError

MAX_IN_FLIGHT = 64  # further requests are dropped, so that a slow shadow does not delay the real answers


class ShadowTraffic:
    """Sends the shadow requests of one case. Open it before use and close it after.

    Args:
        name: The case.
        backend: Computes the scores.
        build_answers: Converts the backend's result to the case's answers.
        folder: Holds the log.
        limits: Rotation and retention of the log.
        timeout: Deadline of a backend call in seconds.
        metrics: Counts the outcomes.
    """

    def __init__(
        self,
        name: str,
        backend: Backend,
        build_answers: Callable[[PredictResult], Sequence[Mapping[str, Any]]],
        folder: Path,
        limits: LogLimits,
        timeout: float,
        metrics: GatewayMetrics,
    ) -> None:
        self.name, self.backend, self.metrics = name, backend, metrics
        self.log = PredictionLog(folder, limits)
        self._build_answers, self._timeout = build_answers, timeout
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Lock the log's folder."""
        self.log.open()

    def ask(self, identity: str, example: bytes, score: float, version: int) -> None:
        """Score a request in the background with the shadow version.

        Args:
            identity: Id of the real prediction.
            example: The request's features, as a serialized ``tf.Example``.
            score: The score that the client got.
            version: The shadow version.
        """
        if len(self._tasks) >= MAX_IN_FLIGHT:
            self.metrics.shadows.labels(self.name, "left out").inc()
            return
        task = asyncio.get_running_loop().create_task(self._ask(identity, example, score, version))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel requests in flight and write the pending records."""
        for task in list(self._tasks):
            task.cancel()
        await self.log.close()

    async def _ask(self, identity: str, example: bytes, score: float, version: int) -> None:
        outcome = "failed"
        try:
            result = await self.backend.predict(self.name, [example], version, self._timeout)
            if output := result.find_invalid_output():
                raise ServingError("INTERNAL", f"the {output} is not a number")
            (answer,) = self._build_answers(result)
            self.metrics.difference.labels(self.name).observe(abs(answer["score"] - score))
            await self.log.append(
                example + encode_example(describe_prediction(identity, "", result, SHADOW, answer, ""))
            )
            outcome = "answered"
        except (ServingError, LogWriteError):
            pass  # noqa: SIM105 (counted below)
        finally:
            self.metrics.shadows.labels(self.name, outcome).inc()
