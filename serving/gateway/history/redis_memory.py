"""The memory in Redis, by its address: several gateways share one history.

A request reads its own records only, in one round trip, and a script of a few lines adds to them: a purchase or a label
that is there already changes nothing, so nothing is lost between gateways, and what is sent again counts once. Without an
answer of the store there is no score: one without history would look like that of a new customer, and would be wrong
without saying so. The records are as durable as that Redis is; one server, with replicas or not, but no Redis Cluster,
since a change touches two keys.
"""

import time
from asyncio import timeout as within
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from redis.exceptions import RedisError

from serving.gateway.circuit_breaker import Breaker, Patience
from serving.gateway.history.memory import Seed, UnreachedError
from serving.gateway.history.online_store import Conflict, hashed
from serving.gateway.history.redis_client import client, said
from serving.gateway.history.redis_fill import LABEL, Filling, label_name
from serving.gateway.log.prediction_log import PredictionLog
from serving.gateway.log.tf_example import Value
from serving.gateway.use_case_interface import Change, Row, Shareable

Answer = TypeVar("Answer")

# ARGV: field, value, counted field, milliseconds to keep, how many fields to drop of the first record, and fields to drop.
# What is there already is answered and nothing is changed.
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


class RedisMemory:
    """One case's memory in Redis; see ``serving.gateway.history.memory.Memory``. Use it from one event loop.

    Args:
        name: The case; its keys begin with ``showcase:NAME:``.
        online: The case's own part; it remembers nothing itself.
        folder: Holds this gateway's logs, and what it has remembered by itself.
        url: ``redis://HOST:PORT/DB``, also ``rediss://`` and ``unix://``.
        timeout: Seconds for an answer.
        patience: When the breaker opens.
        counted: Called with ``answered`` or ``failed`` after every call of the store.

    Raises:
        ValueError: for a URL that is none.
    """

    def __init__(
        self,
        name: str,
        online: Shareable,
        folder: Path,
        url: str,
        timeout: float,
        patience: Patience,
        counted: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self.online, self.timeout, self.prefix = online, timeout, f"showcase:{name}:"
        self.redis, self.where = client(url)
        self.breaker, self._counted = Breaker(patience, time.monotonic), counted
        self._change = self.redis.register_script(CHANGE)
        self._filling = Filling(self.redis, self.prefix, online, folder)

    async def fill(self, seed: Seed) -> int:
        """Fills a new store, once for all gateways: while one does it, the others wait here.

        Raises:
            UnreachedError: if the store does not answer.
        """
        try:
            return await self._filling.run(seed)
        except UnreachedError:
            await self.close()
            raise
        except (RedisError, OSError) as error:
            await self.close()
            message = (
                f"The history's store at {self.where} does not answer: {said(error)}. Start it, or leave --store out."
            )
            raise UnreachedError(message) from None

    def open(self, predictions: PredictionLog, labels: PredictionLog) -> None:
        """Nothing: connections are made when they are needed, and the logs are not its journal."""

    def begin(self) -> None:
        """Nothing."""

    def spares(self, file: int) -> bool:
        """Any."""
        return True

    async def recall(self, row: Row) -> tuple[dict[str, Value], Change]:
        """Reads the row's records, in one round trip."""
        names = self.online.names(row)

        async def read() -> list[Any]:
            # Commands of a pipeline wait for execute(); by their types each would be awaited.
            pipeline: Any = self.redis.pipeline(transaction=False)
            async with pipeline as asked:
                for name in names:
                    asked.hgetall(self.prefix + name)
                asked.exists(self._filling.filled)
                found = await asked.execute()
            if not found.pop():
                raise _Emptied
            return found

        records = await self._answer(read)
        try:
            return self.online.recalled(row, records)
        except (ValueError, TypeError) as error:
            keys = " or ".join(self.prefix + name for name in names)
            raise UnreachedError(
                f"The history's store holds something else under {keys} ({error}); remove it."
            ) from None

    async def remember(self, journal: list[Any], change: Change | None) -> None:
        """Adds the row to its records, unless it is there."""
        assert change is not None, "what recall() gave"
        await self._changed(
            change.record,
            change.field,
            change.value,
            change.counts,
            change.counted,
            len(change.drop),
            *change.drop,
            *change.drop_counts,
        )

    async def takes(self, key: str, label: int | str) -> bool:
        """Whether the label is new."""
        known = await self._answer(lambda: self.redis.hget(self.prefix + label_name(hashed(key)), LABEL))
        return _is_new(key, label, cast("str | None", known))  # the client decodes what comes

    async def learn(self, key: str, label: int | str, known: int, journal: list[Any]) -> bool:
        """Counts a label once."""
        counts, counted = self.online.learned(journal, label, known)
        before = await self._changed(label_name(hashed(key)), LABEL, str(label), counts, counted, 0)
        return _is_new(key, label, before)

    def state(self) -> str:
        """The breaker's."""
        return self.breaker.state

    async def close(self) -> None:
        """Closes the connections."""
        await self.redis.aclose()
        await self.redis.connection_pool.disconnect()

    async def _changed(self, record: str, field: str, value: str, counts: str, counted: str, *drop: Any) -> str | None:
        keys, keep = [self.prefix + record, self.prefix + counts], int(self.online.keeps * 1000)
        return await self._answer(lambda: self._change(keys, [field, value, counted, keep, *drop]))

    async def _answer(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """What the store answers in time, through the breaker."""
        if after := self.breaker.wait():
            raise UnreachedError("The history's store has failed several times in a row; try again later.", after)
        try:
            async with within(self.timeout):
                found = await call()
        except _Emptied:
            message = "has lost what it held; bring it back, or start a gateway again to fill it anew"
        except TimeoutError:
            message = f"gave no answer within {self.timeout:g} s"
        except (RedisError, OSError) as error:
            message = f"does not answer: {said(error)}"
        else:
            self.breaker.succeeded()
            self._counted("answered")
            return found
        self.breaker.failed()
        self._counted("failed")
        raise UnreachedError(f"The history's store at {self.where} {message}.")


class _Emptied(Exception):
    """The store answers, and what was filled into it is gone."""


def _is_new(key: str, label: int | str, known: str | None) -> bool:
    """Raises Conflict where the row has another label."""
    if known is not None and known != str(label):
        raise Conflict(f"'{key}' is labelled {known} already.")
    return known is None
