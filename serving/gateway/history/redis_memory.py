"""The online history in Redis: several gateways share one history.

A request reads only its own records, in one round trip, and a short Lua script updates them. The update is idempotent:
a purchase or label that is stored already changes nothing, so concurrent gateways lose nothing and a retry is counted
once. If the store does not answer, there is no score: without history the row would look like a new customer's, and the
score would be silently wrong. The records are as durable as the Redis server, with or without replicas. Redis Cluster
is not supported, since an update touches two keys.
"""

import asyncio
import time
from asyncio import timeout as within
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from redis.exceptions import RedisError

from serving.gateway.history.first_answer import FirstAnswer, hash_key
from serving.gateway.history.memory import AppendedRecord, Seed, StoreUnavailableError
from serving.gateway.history.online_store import LabelConflictError
from serving.gateway.history.redis_client import describe_error, make_client
from serving.gateway.history.redis_fill import ANSWER_FIELDS, LABEL, HistoryFill, label_record, request_record
from serving.gateway.log.prediction_log import PredictionLog
from serving.gateway.log.tf_example import Value
from serving.gateway.model_calls.circuit_breaker import BreakerPolicy, CircuitBreaker
from serving.gateway.use_case_interface import HistoryChange, Row, Shareable

Answer = TypeVar("Answer")

# KEYS: record, record of the counter. ARGV: field, value, counter's field, retention in milliseconds, number of fields
# to drop from the first record, fields to drop. If the field exists, its value is returned and nothing changes.
CHANGE = """
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then return redis.call('HGET', KEYS[1], ARGV[1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
if ARGV[3] ~= '' then
    redis.call('HINCRBY', KEYS[2], ARGV[3], 1)
    redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
for i = 6, #ARGV do redis.call('HDEL', KEYS[i < 6 + tonumber(ARGV[5]) and 1 or 2], ARGV[i]) end
return false
"""
# KEYS: record, record of the counter, record of the request. ARGV: as above, then digest and answer. If the request has an
# answer, its digest and answer are returned and nothing changes.
ANSWER = f"""
if redis.call('EXISTS', KEYS[3]) == 1 then return redis.call('HMGET', KEYS[3], 'digest', 'answer') end
local answer, digest = table.remove(ARGV), table.remove(ARGV)
redis.call('HSET', KEYS[3], 'digest', digest, 'answer', answer)
redis.call('PEXPIRE', KEYS[3], ARGV[4])
{CHANGE}"""


class RedisMemory:
    """One case's memory in Redis; see ``serving.gateway.history.memory.Memory``. Use it from one event loop.

    Args:
        name: The case; its keys begin with ``showcase:NAME:``.
        online: The use case; its own in-process history stays empty.
        folder: Holds this gateway's logs and the checkpoint of an earlier embedded memory.
        url: ``redis://HOST:PORT/DB``, also ``rediss://`` and ``unix://``.
        timeout: Deadline of a call in seconds.
        breaker_policy: When the circuit breaker opens.
        count_outcome: Called with ``answered`` or ``failed`` after every call to the store.

    Raises:
        ValueError: for an invalid URL.
    """

    def __init__(
        self,
        name: str,
        online: Shareable,
        folder: Path,
        url: str,
        timeout: float,
        breaker_policy: BreakerPolicy,
        count_outcome: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self.online, self.timeout, self.prefix = online, timeout, f"showcase:{name}:"
        self.redis, self.address = make_client(url)
        self.breaker, self._count_outcome = CircuitBreaker(breaker_policy, time.monotonic), count_outcome
        self._change, self._answer = self.redis.register_script(CHANGE), self.redis.register_script(ANSWER)
        self._filling = HistoryFill(self.redis, self.prefix, online, folder)

    async def fill(self, seed: Seed) -> int:
        """Fill a new store, once for all gateways: while one gateway fills it, the others wait here.

        Raises:
            StoreUnavailableError: if the store does not answer.
        """
        try:
            return await self._filling.run(seed)
        except StoreUnavailableError:
            await self.close()
            raise
        except (RedisError, OSError) as error:
            await self.close()
            raise StoreUnavailableError(
                f"The history store at {self.address} does not answer: {describe_error(error)}. Start it, or omit --store."
            ) from None

    def open(self, predictions: PredictionLog, labels: PredictionLog) -> None:
        """Do nothing: connections are opened when needed, and the logs are not this memory's journal."""

    def begin(self) -> None:
        """Do nothing: there is no background work."""

    def can_remove_file(self, file: int) -> bool:
        """Return True: no log file is needed to restore this memory."""
        return True

    async def recall(self, row: Row, request_id: str) -> tuple[dict[str, Value], HistoryChange, FirstAnswer | None]:
        """Read the row's records in one round trip; see ``Memory``."""
        names = self.online.names(row)

        async def read() -> list[Any]:
            # Typed as Any: commands on a pipeline are queued until execute(), but redis-py types them as awaitable.
            commands: Any = self.redis.pipeline(transaction=False)
            async with commands as pipeline:
                for name in names:
                    pipeline.hgetall(self.prefix + name)
                pipeline.hmget(self.prefix + request_record(hash_key(request_id)), ANSWER_FIELDS)
                pipeline.exists(self._filling.filled_key)
                replies = await pipeline.execute()
            if not replies.pop():
                raise _HistoryLostError
            return replies

        *records, earlier = await self._call(read)
        try:
            return *self.online.features_from_records(row, records), _to_first_answer(request_id, earlier)
        except (ValueError, TypeError) as error:
            keys = " or ".join(self.prefix + name for name in names)
            raise StoreUnavailableError(
                f"The history store holds an invalid record under {keys} ({error}); remove it."
            ) from None

    async def remember(
        self, journal: list[Any], change: HistoryChange | None, answer: FirstAnswer, record: AppendedRecord
    ) -> FirstAnswer | None:
        """Add the row to its records and its answer, unless another gateway has answered it.

        The record is on disk before: an answer that other gateways repeat has its record in the log.
        """
        assert change is not None, "recall() returned it"
        await asyncio.shield(record.written)  # other requests wait for the same future
        request = request_record(hash_key(answer.request_id))
        keys = [self.prefix + name for name in (change.record, change.counts, request)]
        drop: list[Any] = [len(change.drop), *change.drop, *change.drop_counts]
        values = [change.field, change.value, change.counted, self._retention_ms, *drop, answer.digest, answer.body]
        return _to_first_answer(answer.request_id, await self._call(lambda: self._answer(keys, values)))

    async def is_new_label(self, key: str, label: int | str) -> bool:
        """Return whether the label is new; see ``Memory``."""
        previous = await self._call(lambda: self.redis.hget(self.prefix + label_record(hash_key(key)), LABEL))
        return _is_new(key, label, cast("str | None", previous))  # str, since the client decodes replies

    async def learn(self, key: str, label: int | str, known_at: int, journal: list[Any]) -> bool:
        """Count a label once; see ``Memory``."""
        record, field = self.online.label_counter(journal, label, known_at)
        previous = await self._apply(label_record(hash_key(key)), LABEL, str(label), record, field, 0)
        return _is_new(key, label, previous)

    def state(self) -> str:
        """Return the circuit breaker's state."""
        return self.breaker.state

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()
        await self.redis.connection_pool.disconnect()

    async def _apply(self, record: str, field: str, value: str, counts: str, counted: str, *drop: Any) -> str | None:
        """Run the update script; return the field's previous value, None if it was new."""
        keys, values = [self.prefix + record, self.prefix + counts], [field, value, counted, self._retention_ms, *drop]
        return await self._call(lambda: self._change(keys, values))

    @property
    def _retention_ms(self) -> int:
        return int(self.online.retention_seconds * 1000)

    async def _call(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Await a call to the store, with the deadline and through the circuit breaker."""
        if retry_after := self.breaker.wait():
            raise StoreUnavailableError(
                "The history store has failed several times in a row; try again later.", retry_after
            )
        try:
            async with within(self.timeout):
                reply = await call()
        except _HistoryLostError:
            message = "has lost its data; restore it, or restart a gateway to fill it again"
        except TimeoutError:
            message = f"did not answer within {self.timeout:g} s"
        except (RedisError, OSError) as error:
            message = f"does not answer: {describe_error(error)}"
        else:
            self.breaker.record_success()
            self._count_outcome("answered")
            return reply
        self.breaker.record_failure()
        self._count_outcome("failed")
        raise StoreUnavailableError(f"The history store at {self.address} {message}.")


class _HistoryLostError(Exception):
    """The store answers, but the filled history is gone."""


def _to_first_answer(request_id: str, reply: Any) -> FirstAnswer | None:
    """Return the answer from a reply: digest and answer, or nothing."""
    return FirstAnswer(request_id, reply[0], reply[1].encode()) if isinstance(reply, list) and reply[0] else None


def _is_new(key: str, label: int | str, previous: str | None) -> bool:
    """Return whether the row has no label yet; raise LabelConflictError if it has another one."""
    if previous is not None and previous != str(label):
        raise LabelConflictError(f"'{key}' is labelled {previous} already.")
    return previous is None
