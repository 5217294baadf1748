"""Scores the requests of one case: from a request's bytes to a response whose record is on disk."""

import asyncio
import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import getrandbits
from typing import Any

import orjson

from serving import rollout
from serving.gateway.body_parser import BodyParser
from serving.gateway.feature_attribution import rank_attributions, vary_features
from serving.gateway.gateway_metrics import STATES, GatewayMetrics
from serving.gateway.history.embedded_memory import CheckpointSchedule, EmbeddedMemory
from serving.gateway.history.first_answer import FirstAnswer, hash_content
from serving.gateway.history.memory import AppendedRecord, Memory, StoreUnavailableError
from serving.gateway.history.online_store import JOURNAL, LABELS, PREDICTIONS
from serving.gateway.key_locks import KeyLocks
from serving.gateway.log.prediction_log import LogLimits, LogWriteError, PredictionLog
from serving.gateway.log.prediction_record import describe_prediction
from serving.gateway.log.tf_example import Value, encode_example
from serving.gateway.model_calls.backend import Backend, PredictResult
from serving.gateway.model_calls.circuit_breaker import OPEN, BreakerPolicy, TokenBucket
from serving.gateway.model_calls.model_client import ModelClient
from serving.gateway.request_headers import REPEATED, parse_trace, read_request_id
from serving.gateway.shadow_traffic import ShadowTraffic
from serving.gateway.use_case_interface import Online, Row
from serving.gateway.version_files import VersionFiles, read_version_files
from serving.http.asyncio_server import Request, Response
from serving.http.request_errors import RequestError


@dataclass(frozen=True)
class ScoringOptions:
    """How a case is served.

    Attributes:
        timeout: Deadline of a backend call in seconds.
        rate: Rate limit in requests a second; 0 for no limit.
        burst: Requests that may arrive at once within the rate limit.
        max_in_flight: Maximum number of requests in flight; further ones are rejected.
        breaker_policy: When the circuit breaker opens.
        limits: Rotation and retention of the prediction log's files.
        checkpoint_schedule: How often a memory in this process writes checkpoints.
    """

    timeout: float = 2.0
    rate: float = 0.0
    burst: float = 100.0
    max_in_flight: int = 1024
    breaker_policy: BreakerPolicy = BreakerPolicy()
    limits: LogLimits = LogLimits()
    checkpoint_schedule: CheckpointSchedule = CheckpointSchedule()


class Scorer:
    """Scores requests of one case. Open it before use and close it after.

    Args:
        name: The case's name in URLs and in the backend.
        online: The case's own part of the gateway.
        backend: Computes the scores.
        versions: The case's folder of versions, with its rollout file.
        folder: Holds the logs and the checkpoint.
        options: How the case is served.
        metrics: The gateway's metrics.
        memory: The online history; by default in this process.
    """

    def __init__(
        self,
        name: str,
        online: Online,
        backend: Backend,
        versions: Path,
        folder: Path,
        options: ScoringOptions,
        metrics: GatewayMetrics,
        memory: Memory | None = None,
    ) -> None:
        self.name, self.online, self.backend, self.versions, self.options = name, online, backend, versions, options
        self.metrics, self.memory = metrics, memory or EmbeddedMemory(online, folder, options.checkpoint_schedule)
        self.log = PredictionLog(
            folder / PREDICTIONS, options.limits, self.memory.can_remove_file, expected=lambda: self.in_flight
        )
        self.labels = PredictionLog(folder / LABELS, LogLimits(keep_seconds=0))
        self.shadow = ShadowTraffic(
            name=name,
            backend=backend,
            build_answers=self._build_answers,
            folder=folder / "shadow",
            limits=options.limits,
            timeout=options.timeout,
            metrics=metrics,
        )
        self.model = ModelClient(name, backend, options.timeout, options.breaker_policy, metrics)
        self.breaker = self.model.breaker
        self.bucket = TokenBucket(options.rate, options.burst, time.monotonic)
        self.bodies = BodyParser()
        self.label_lock = asyncio.Lock()
        self.rollout, self.in_flight = rollout.Rollout(), 0
        self._locks = KeyLocks()
        self._seconds = metrics.seconds.labels(name)
        self._decision_counter = lru_cache(256)(lambda *labels: metrics.decisions.labels(name, *labels))
        metrics.add_refresh(self._set_gauges)

    def open(self) -> None:
        """Lock the folder, restore the memory and read the rollout."""
        for log in (self.log, self.labels, self.shadow):
            log.open()
        self.memory.open(self.log, self.labels)
        self.refresh()
        self._get_version_files(
            rollout.stable_version(self.versions, self.rollout) or 0
        )  # fill the cache before the first request

    def refresh(self) -> None:
        """Read the rollout file again."""
        self.rollout = rollout.read(self.versions)

    async def close(self) -> None:
        """Write pending records and a checkpoint."""
        self.bodies.close()
        for log in (self.shadow, self.log, self.labels):
            await log.close()
        await self.memory.close()

    async def score(self, request: Request, explain: bool) -> Response:
        """Answer one request; with ``explain`` the answer includes the features that raise the score.

        Raises:
            RequestError: if the request is rejected or cannot be scored.
        """
        began = time.perf_counter()
        self._admit()
        self.in_flight += 1
        try:
            row, trace = await self._parse_row(request.body), parse_trace(request.headers)
            # A row with history, such as a purchase, happens once; any other may be scored again, by a newer version.
            request_id = self.online.key(row) if self.online.has_history else read_request_id(request.headers)
            async with self._locks.hold(request_id) if request_id else nullcontext():
                body, is_repeated = await self._answer(row, request_id, explain, trace)
        except LogWriteError as error:
            raise RequestError(503, str(error), 1.0) from None
        except StoreUnavailableError as error:
            raise RequestError(503, str(error), error.retry_after) from None
        finally:
            self.in_flight -= 1
        self._seconds.observe(time.perf_counter() - began)
        headers = [("traceparent", trace)] if trace else []
        return Response(200, body, headers=(*headers, *([REPEATED] if is_repeated else [])))

    async def check_ready(self) -> str:
        """Return ``ready``, or why the case is not."""
        for log in (self.log, self.labels):
            if problem := await log.check_writable():
                return f"the log of {log.folder.name} cannot be written: {problem}"
        # Half-open is ready: no load balancer sends a request to a gateway that is not, so none could close the breaker.
        if self.breaker.state == OPEN:
            return "breaker open"
        return "history breaker open" if self.memory.state() == OPEN else "ready"

    def _admit(self) -> None:
        """Apply the rate limit and the limit on requests in flight."""
        if retry_after := self.bucket.wait():
            raise RequestError(429, f"More than {self.options.rate:g} requests a second; try again later.", retry_after)
        if self.in_flight >= self.options.max_in_flight:
            raise RequestError(
                503, f"{self.options.max_in_flight} requests are in flight already; try again later.", 1.0
            )

    async def _parse_row(self, body: bytes | bytearray) -> Row:
        online = self.online
        return await self.bodies.parse(online.Request, body, online.max_bytes, online.row, online.reads_files)

    async def _answer(self, row: Row, request_id: str, explain: bool, trace: str) -> tuple[bytes, bool]:
        """Return the answer as JSON, and whether it is the first answer to a repeated request."""
        key, digest = self.online.key(row), hash_content(row) if request_id else ""
        features, change, earlier = await self.memory.recall(row, request_id)
        if earlier:
            return self._repeat(earlier, digest), True
        arm, version = self.rollout.choose_arm(key)
        varied = self._vary_features(features, version) if explain else []
        examples = [encode_example(features), *(encode_example(variation) for _, variation in varied)]
        result = await self.model.predict(examples, version)
        answer, *others = self._build_answers(result)
        position = self.log.position
        identity = f"{self.name}.{position.file:x}.{position.offset:x}.{getrandbits(32):08x}"
        body = {"prediction_id": identity, "case": self.name, "version": result.version, "arm": arm, **answer}
        if explain:
            scores = [other["score"] for other in others]
            body["reasons"] = rank_attributions(features, varied, answer["score"], scores)
        first, journal = FirstAnswer(request_id, digest, orjson.dumps(body)), self.online.journal(row)
        served = describe_prediction(identity, key, result, arm, answer, trace) | {JOURNAL: orjson.dumps(journal)}
        served |= first.fields(key)
        # Nothing is awaited between reading the log's position and appending the record there.
        record = AppendedRecord(position, self.log.append(examples[0] + encode_example(served)))
        if other_gateways := await self.memory.remember(journal, change, first, record):
            return self._repeat(other_gateways, digest), True
        if self.rollout.shadow is not None:
            self.shadow.ask(identity, examples[0], answer["score"], self.rollout.shadow)
        await record.written
        self._decision_counter(str(result.version), arm, answer["decision"]).inc()
        return first.body, False

    def _repeat(self, earlier: FirstAnswer, digest: str) -> bytes:
        """Return the first answer to a request that is sent again.

        Raises:
            RequestError: if the id was used for a row with another content.
        """
        is_same = earlier.digest == digest
        self.metrics.repeats.labels(self.name, "repeated" if is_same else "conflict").inc()
        if not is_same:
            identity = orjson.loads(earlier.body)["prediction_id"]
            raise RequestError(
                409,
                f"'{earlier.request_id}' was sent before with another content (prediction {identity}); "
                "send a new row with an id of its own, or repeat the first request unchanged.",
            )
        return earlier.body

    def _build_answers(self, result: PredictResult) -> list[dict[str, Any]]:
        """Return the case's answer for every row of the outputs."""
        files = self._get_version_files(result.version)
        count = len(next(iter(result.outputs.values())))
        rows = ({name: values[n] for name, values in result.outputs.items()} for n in range(count))
        return [self.online.answer(row, files.point, files.settings) for row in rows]

    def _get_version_files(self, version: int) -> VersionFiles:
        return read_version_files(self.versions, version)

    def _vary_features(self, features: dict[str, Value], version: int | None) -> list[tuple[str, dict[str, Value]]]:
        if not self.online.explained_features:
            raise RequestError(422, f"Case '{self.name}' does not support reasons; send the request without them.")
        if version is None:
            version = self.model.version or rollout.stable_version(self.versions, self.rollout) or 0
        return vary_features(features, self.online.explained_features, self._get_version_files(version).typical)

    def _set_gauges(self) -> None:
        self.metrics.breaker.labels(self.name).set(STATES[self.breaker.state])
        self.metrics.history.labels(self.name).set(STATES[self.memory.state()])
        self.metrics.waiting.labels(self.name).set(self.log.lag)
        for counter, total in ((self.metrics.records, self.log.records), (self.metrics.groups, self.log.groups)):
            counter.labels(self.name).inc(total - counter.labels(self.name)._value.get())
        for arm in (rollout.STABLE, rollout.CANARY, rollout.SHADOW):
            self.metrics.live.labels(self.name, arm).set(self.rollout.labels.get(arm, -1))
