"""Calls one case's model through a circuit breaker, and refuses outputs that are not numbers."""

import logging
import time
from collections.abc import Sequence

from serving.gateway.gateway_metrics import GatewayMetrics
from serving.gateway.model_calls.backend import Backend, PredictResult
from serving.gateway.model_calls.circuit_breaker import BreakerPolicy, CircuitBreaker
from serving.http.request_errors import RequestError
from serving.status_errors import ServingError

# gRPC statuses that count as failures of the backend; all others are faults of the request.
FAILURES = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "DATA_LOSS", "RESOURCE_EXHAUSTED", "CANCELLED")
log = logging.getLogger(__name__)


class ModelClient:
    """Client of one case's model.

    Args:
        name: The case's name in the backend.
        backend: Computes the scores.
        timeout: Deadline of a call in seconds.
        breaker_policy: When the circuit breaker opens.
        metrics: The gateway's metrics.

    Attributes:
        version: The version that answered last; 0 before the first answer.
    """

    def __init__(
        self, name: str, backend: Backend, timeout: float, breaker_policy: BreakerPolicy, metrics: GatewayMetrics
    ) -> None:
        self.name, self.backend, self.timeout, self.metrics = name, backend, timeout, metrics
        self.breaker, self.version = CircuitBreaker(breaker_policy, time.monotonic), 0

    async def predict(self, examples: Sequence[bytes], version: int | None) -> PredictResult:
        """Score the examples with the given version, or with the newest if ``version`` is None.

        Raises:
            RequestError: if the model fails, or an output is not a number.
        """
        if retry_after := self.breaker.wait():
            raise RequestError(503, "The model has failed several times in a row; try again later.", retry_after)
        try:
            result = await self._call(examples, version)
        except ServingError as error:
            self.breaker.record_failure() if error.status in FAILURES else self.breaker.record_success()
            raise RequestError(error.http, error.message, 1.0 if error.http in (429, 503) else None) from None
        except Exception:
            self.breaker.record_failure()
            raise
        self.breaker.record_success()
        self.version = result.version
        self._require_numbers(result)
        return result

    async def _call(self, examples: Sequence[bytes], version: int | None) -> PredictResult:
        try:
            return await self.backend.predict(self.name, examples, version, self.timeout)
        except ServingError as error:
            if error.status != "NOT_FOUND" or version is None:
                raise
        # The version was just unloaded: fall back to the version that is served now.
        return await self.backend.predict(self.name, examples, None, self.timeout)

    def _require_numbers(self, result: PredictResult) -> None:
        """Refuse a result that is not finite; every comparison with NaN is false, so it would pass any threshold."""
        if output := result.find_invalid_output():
            self.metrics.invalid.labels(self.name, str(result.version)).inc()
            log.error(
                "%s version %d returned '%s' with a value that is not a number", self.name, result.version, output
            )
            raise RequestError(
                500,
                f"Version {result.version} of the model returned '{output}' with a value that is not a number, "
                "so there is no decision; if this continues, roll the version back.",
            )
