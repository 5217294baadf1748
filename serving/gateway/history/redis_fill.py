"""How a new memory in Redis gets its history: once, by one gateway, while the others wait.

Whoever sets the lock fills. Every write asks whether the lock is still its own, so that a gateway that was held up longer
than the lock cannot write over what others have counted since. One that dies leaves a lock that ends by itself.
"""

import asyncio
import copy
import secrets
from asyncio import timeout as within
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from serving.gateway.history import memory_checkpoint
from serving.gateway.history.memory import Seed, UnreachedError
from serving.gateway.history.online_store import OnlineStore
from serving.gateway.use_case_interface import Fields, Shareable

LOCK_MS = 30_000
POLL_SECONDS = 0.2
BATCH = 200
LABEL = "label"
LATE = "Filling the history's store took too long, and another gateway has begun anew; start this one again."

# KEYS: lock, record. ARGV: the lock's token, milliseconds to keep, then fields and values.
WRITE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
"""
# KEYS: lock, mark. ARGV: the lock's token, what every gateway needs.
END = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[1])
return 1
"""
# KEYS: lock. ARGV: the lock's token, milliseconds.
HOLD = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0"


class Filling:
    """Fills a case's keys.

    Args:
        redis: The store.
        prefix: What the case's keys begin with.
        online: The case; it is told how far the history reaches.
        folder: Of this gateway: what it has remembered by itself before goes along.

    Attributes:
        filled: The key that is there once a history is.
    """

    def __init__(self, redis: Redis, prefix: str, online: Shareable, folder: Path) -> None:
        self.redis, self.prefix, self.online, self.folder = redis, prefix, online, folder
        self.filled, self._lock = f"{prefix}filled", f"{prefix}filling"
        self._write, self._end, self._hold = (redis.register_script(one) for one in (WRITE, END, HOLD))

    async def run(self, seed: Seed) -> int:
        """Returns once there is a history, with the number of rows that this call has put in.

        Raises:
            OSError, RedisError: if the store does not answer.
        """
        token = secrets.token_hex(8)
        while True:
            async with within(LOCK_MS / 1000):
                if told := await self.redis.get(self.filled):
                    self.online.load(orjson.loads(told))
                    return 0
                mine = await self.redis.set(self._lock, token, nx=True, px=LOCK_MS)
            if mine:
                return await self._fill(token, seed)
            await asyncio.sleep(POLL_SECONDS)

    async def _fill(self, token: str, seed: Seed) -> int:
        holding = asyncio.create_task(self._held(token))
        try:
            count, rest, records = await asyncio.to_thread(self._history, seed)
            while batch := await asyncio.to_thread(lambda: list(islice(records, BATCH))):
                await self._put(token, batch)
            async with within(LOCK_MS / 1000):
                if not await self._end([self._lock, self.filled], [token, orjson.dumps(rest)]):
                    raise UnreachedError(LATE)
        except Exception:
            with suppress(RedisError, OSError):
                async with within(1.0):
                    await self._hold([self._lock], [token, 1])  # whoever comes next need not wait for the lock's end
            raise
        finally:
            holding.cancel()
        self.online.load(rest)
        return count

    def _history(self, seed: Seed) -> tuple[int, Any, Iterator[tuple[str, Fields]]]:
        """What the raw spans and this gateway's own logs hold; made beside, since the case itself remembers nothing."""
        online = copy.deepcopy(self.online)
        store = OnlineStore(online, self.folder)
        count = 0 if (self.folder / memory_checkpoint.FILE).exists() else seed(online)
        store.restore()
        rest, records = online.records()
        return count, rest, chain(records, _labels(store.labelled))

    async def _put(self, token: str, batch: list[tuple[str, Fields]]) -> None:
        keep = int(self.online.keeps * 1000)
        async with within(LOCK_MS / 1000), self.redis.pipeline(transaction=False) as asked:
            for name, fields in batch:
                keys = [self._lock, self.prefix + name]
                await self._write(keys, [token, keep, *chain.from_iterable(fields.items())], client=asked)
            if not all(await asked.execute()):
                raise UnreachedError(LATE)

    async def _held(self, token: str) -> None:
        """Keeps the lock for as long as this process lives."""
        while True:
            await asyncio.sleep(LOCK_MS / 3000)
            await self._hold([self._lock], [token, LOCK_MS])


def label_name(number: int) -> str:
    """The record of a row's label, by the hash of the row's key."""
    return f"label/{number:x}"


def _labels(labelled: Mapping[int, int | str]) -> Iterator[tuple[str, Fields]]:
    return ((label_name(number), {LABEL: str(label)}) for number, label in labelled.items())
