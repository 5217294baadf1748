"""One case at the gateway: from a request's bytes to an answer that is on disk."""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import getrandbits
from typing import Any

import orjson
from pydantic import ValidationError

from serving import rollout
from serving.errors import ServingError
from serving.gateway.backend import Answered, Backend
from serving.gateway.circuit_breaker import CLOSED, Breaker, Patience, TokenBucket
from serving.gateway.feature_attribution import reasons, variations
from serving.gateway.gateway_metrics import STATES, Metrics
from serving.gateway.history.embedded_memory import Embedded, Pace
from serving.gateway.history.memory import Memory, UnreachedError
from serving.gateway.history.online_store import LABELS, PREDICTIONS, journal
from serving.gateway.log.prediction_log import Limits, PredictionLog, UnwrittenError
from serving.gateway.log.tf_example import Encoder, Value, example
from serving.gateway.prediction_record import scored
from serving.gateway.request_errors import Refused, invalid
from serving.gateway.shadow_traffic import Shadow
from serving.gateway.use_case_interface import Change, Online, Row
from serving.gateway.version_files import Served, served
from serving.http.asyncio_server import Request, Response

FAILURES = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "DATA_LOSS", "RESOURCE_EXHAUSTED", "CANCELLED")
TRACE = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True)
class Options:
    """How a case is served.

    Attributes:
        timeout: Seconds that the backend has for an answer.
        rate: Requests a second that are let in; 0 for no limit.
        burst: Requests that may come at once under a rate.
        waiting: Requests under way at a time; more are refused.
        patience: When the breaker opens.
        limits: Files of the prediction log.
        pace: When a memory in this process writes checkpoints.
    """

    timeout: float = 2.0
    rate: float = 0.0
    burst: float = 100.0
    waiting: int = 1024
    patience: Patience = Patience()
    limits: Limits = Limits()
    pace: Pace = Pace()


class Scorer:
    """Scores requests of one case. Open it before use and close it after.

    Args:
        name: What the case is called in addresses and in the backend.
        online: The case's own part.
        backend: Who computes scores.
        versions: The case's folder of versions, with its rollout.
        folder: Where the logs and the checkpoint lie.
        memory: What is remembered, and where; by default in this process.
    """

    def __init__(
        self,
        name: str,
        online: Online,
        backend: Backend,
        versions: Path,
        folder: Path,
        options: Options,
        metrics: Metrics,
        memory: Memory | None = None,
    ) -> None:
        self.name, self.online, self.backend, self.versions, self.options = name, online, backend, versions, options
        self.metrics, self.memory = metrics, memory or Embedded(online, folder, options.pace)
        self.log = PredictionLog(
            folder / PREDICTIONS, options.limits, self.memory.spares, expected=lambda: self.under_way
        )
        self.labels = PredictionLog(folder / LABELS, Limits(keep_seconds=0))
        self.shadow = Shadow(name, backend, self._told, folder / "shadow", options.limits, options.timeout, metrics)
        self.breaker = Breaker(options.patience, time.monotonic)
        self.bucket = TokenBucket(options.rate, options.burst, time.monotonic)
        self.labelling = asyncio.Lock()
        self.rollout, self.version, self.under_way = rollout.Rollout(), 0, 0
        self._encode = Encoder(online.floats)
        self._seconds = metrics.seconds.labels(name)
        self._decided = lru_cache(256)(lambda *labels: metrics.decisions.labels(name, *labels))
        metrics.before(self._gauges)

    def open(self) -> None:
        """Takes the folder, restores the memory and reads the rollout."""
        for one in (self.log, self.labels, self.shadow):
            one.open()
        self.memory.open(self.log, self.labels)
        self.refresh()
        self._beside(rollout.stable(self.versions, self.rollout) or 0)  # read before anybody waits for it

    def refresh(self) -> None:
        """Reads the rollout again."""
        self.rollout = rollout.read(self.versions)

    async def close(self) -> None:
        """Writes what waits, and a checkpoint."""
        for one in (self.shadow, self.log, self.labels):
            await one.close()
        await self.memory.close()

    async def score(self, request: Request, explain: bool) -> Response:
        """The answer to one request; with ``explain`` it says which features raise the score.

        Raises:
            Refused: if there is none.
        """
        began = time.perf_counter()
        self._admit(request)
        self.under_way += 1
        try:
            row, features, change = await self._understood(request.body)
            arm, version = self.rollout.arm(self.online.key(row))
            varied = self._variations(features, version) if explain else []
            entries = self._encode(features)
            answered = await self._ask([example(entries), *(example(self._encode(one)) for _, one in varied)], version)
            told, *others = self._told(answered)
            trace = request.headers.get("traceparent", "")
            trace = trace if TRACE.fullmatch(trace) else ""
            identity, kept = await self._keep(row, change, entries, answered, arm, told, trace)
            body = {"prediction_id": identity, "case": self.name, "version": answered.version, "arm": arm, **told}
            if explain:
                body["reasons"] = reasons(features, varied, told["score"], [one["score"] for one in others])
            await kept
        except UnwrittenError as error:
            raise Refused(503, str(error), 1.0) from None
        except UnreachedError as error:
            raise Refused(503, str(error), error.after) from None
        finally:
            self.under_way -= 1
        self._decided(str(answered.version), arm, told["decision"]).inc()
        self._seconds.observe(time.perf_counter() - began)
        return Response(200, orjson.dumps(body), headers=(("traceparent", trace),) if trace else ())

    def state(self) -> str:
        """``ready``, or why not."""
        if self.breaker.state != CLOSED:
            return f"breaker {self.breaker.state}"
        history = self.memory.state()
        return "ready" if history == CLOSED else f"history's breaker {history}"

    def _admit(self, request: Request) -> None:
        if after := self.bucket.wait():
            raise Refused(429, f"More than {self.options.rate:g} requests a second; try again later.", after)
        if self.under_way >= self.options.waiting:
            raise Refused(503, f"{self.options.waiting} requests are under way already; try again later.", 1.0)
        if len(request.body) > self.online.most_bytes:
            raise Refused(413, f"The body is larger than {self.online.most_bytes} bytes.")

    async def _understood(self, body: bytes) -> tuple[Row, dict[str, Value], Change | None]:
        """The request as a row, the row's features, and what makes it part of the past."""
        try:
            row = self.online.row(self.online.Request.model_validate_json(body))
            return row, *await self.memory.recall(row)
        except ValidationError as error:
            raise invalid(error) from None
        except ValueError as error:
            raise Refused(422, str(error)) from None

    async def _ask(self, examples: Sequence[bytes], version: int | None) -> Answered:
        if after := self.breaker.wait():
            raise Refused(503, "The model has failed several times in a row; try again later.", after)
        try:
            try:
                answered = await self.backend.predict(self.name, examples, version, self.options.timeout)
            except ServingError as error:
                if error.status != "NOT_FOUND" or version is None:
                    raise
                # The version was just taken out of service: whatever is served now answers.
                answered = await self.backend.predict(self.name, examples, None, self.options.timeout)
        except ServingError as error:
            self.breaker.failed() if error.status in FAILURES else self.breaker.succeeded()
            raise Refused(error.http, error.message, 1.0 if error.http in (429, 503) else None) from None
        except Exception:
            self.breaker.failed()
            raise
        self.breaker.succeeded()
        self.version = answered.version
        return answered

    def _told(self, answered: Answered) -> list[dict[str, Any]]:
        """The case's answer for every row of the outputs."""
        beside = self._beside(answered.version)
        count = len(next(iter(answered.outputs.values())))
        rows = ({name: values[n] for name, values in answered.outputs.items()} for n in range(count))
        return [self.online.answer(row, beside.point, beside.settings) for row in rows]

    def _beside(self, version: int) -> Served:
        return served(self.versions, version)

    def _variations(self, features: dict[str, Value], version: int | None) -> list[tuple[str, dict[str, Value]]]:
        if not self.online.hints:
            raise Refused(422, f"{self.name} gives no reasons; ask without them.")
        if version is None:
            version = self.version or rollout.stable(self.versions, self.rollout) or 0
        return variations(features, self.online.hints, self._beside(version).typical)

    async def _keep(
        self,
        row: Row,
        change: Change | None,
        entries: bytes,
        answered: Answered,
        arm: str,
        told: dict[str, Any],
        trace: str,
    ) -> tuple[str, "asyncio.Future[None]"]:
        """Hands the record to the log and the row to the memory; returns the prediction's id and what to wait for."""
        place = self.log.place
        identity = f"{self.name}.{place.file:x}.{place.offset:x}.{getrandbits(32):08x}"
        past = self.online.journal(row)
        beside = scored(identity, self.online.key(row), answered, arm, told, trace)
        kept = self.log.append(example(entries, beside, journal(past)))
        await self.memory.remember(past, change)
        if self.rollout.shadow is not None:
            self.shadow.ask(identity, entries, told["score"], self.rollout.shadow)
        return identity, kept

    def _gauges(self) -> None:
        self.metrics.breaker.labels(self.name).set(STATES[self.breaker.state])
        self.metrics.history.labels(self.name).set(STATES[self.memory.state()])
        self.metrics.waiting.labels(self.name).set(self.log.lag)
        for counter, now in ((self.metrics.records, self.log.records), (self.metrics.groups, self.log.groups)):
            counter.labels(self.name).inc(now - counter.labels(self.name)._value.get())
        for arm in (rollout.STABLE, rollout.CANARY, rollout.SHADOW):
            self.metrics.live.labels(self.name, arm).set(self.rollout.labels.get(arm, -1))
