"""Fills a new history in Redis once, by one gateway, while the others wait.

The gateway that acquires the lock fills the history. Every write checks that the lock is still its own, so that a
gateway that was delayed for longer than the lock's lifetime cannot overwrite what others have counted since. The lock
expires by itself if its owner dies.
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
from serving.gateway.history.memory import Seed, StoreUnavailableError
from serving.gateway.history.online_store import OnlineStore
from serving.gateway.history.request_index import RequestIndex
from serving.gateway.log.log_files import LogPosition
from serving.gateway.use_case_interface import Fields, Shareable

LOCK_MS = 30_000
POLL_SECONDS = 0.2
BATCH = 200
LABEL, ANSWER_FIELDS = "label", ("digest", "answer")
LOCK_LOST = "Filling the history store took too long and another gateway has taken over; restart this gateway."

# KEYS: lock, record. ARGV: the lock's token, retention in milliseconds, then fields and values.
WRITE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
"""
# KEYS: lock, key that marks a filled history. ARGV: the lock's token, the state that every gateway needs.
FINISH = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[1])
return 1
"""
# KEYS: lock. ARGV: the lock's token, new lifetime in milliseconds.
EXTEND = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0"


class HistoryFill:
    """Fills the history of one case.

    Args:
        redis: The store.
        prefix: Prefix of the case's keys.
        online: The use case; it loads the state that every gateway needs, such as the end of the seeded history.
        folder: This gateway's folder; rows that it has remembered in an embedded memory before are included.

    Attributes:
        filled_key: The key that exists once the history is filled.
    """

    def __init__(self, redis: Redis, prefix: str, online: Shareable, folder: Path) -> None:
        self.redis, self.prefix, self.online, self.folder = redis, prefix, online, folder
        self.filled_key, self._lock = f"{prefix}filled", f"{prefix}filling"
        self._write, self._finish, self._extend = (redis.register_script(script) for script in (WRITE, FINISH, EXTEND))

    async def run(self, seed: Seed) -> int:
        """Return once the history is filled, with the number of rows that this call has added.

        Raises:
            OSError, RedisError: if the store does not answer.
        """
        token = secrets.token_hex(8)
        while True:
            async with within(LOCK_MS / 1000):
                if state := await self.redis.get(self.filled_key):
                    self.online.load(orjson.loads(state))
                    return 0
                acquired = await self.redis.set(self._lock, token, nx=True, px=LOCK_MS)
            if acquired:
                return await self._fill(token, seed)
            await asyncio.sleep(POLL_SECONDS)

    async def _fill(self, token: str, seed: Seed) -> int:
        lock_keeper = asyncio.create_task(self._keep_lock(token))
        try:
            count, state, records = await asyncio.to_thread(self._load_history, seed)
            while batch := await asyncio.to_thread(lambda: list(islice(records, BATCH))):
                await self._write_batch(token, batch)
            async with within(LOCK_MS / 1000):
                if not await self._finish([self._lock, self.filled_key], [token, orjson.dumps(state)]):
                    raise StoreUnavailableError(LOCK_LOST)
        except Exception:
            with suppress(RedisError, OSError):
                async with within(1.0):
                    await self._extend([self._lock], [token, 1])  # expire the lock now, so that the next need not wait
            raise
        finally:
            lock_keeper.cancel()
        self.online.load(state)
        return count

    def _load_history(self, seed: Seed) -> tuple[int, Any, Iterator[tuple[str, Fields]]]:
        """Read the history from the raw spans and this gateway's logs, into a copy: ``self.online`` itself stays empty.

        Returns:
            The number of seeded rows, the state that every gateway needs, and the records.
        """
        online = copy.deepcopy(self.online)
        store = OnlineStore(online, self.folder)
        count = 0 if (self.folder / memory_checkpoint.FILE).exists() else seed(online)
        store.restore()
        state, records = online.records()
        return count, state, chain(records, _label_records(store.labelled), _request_records(store.requests))

    async def _write_batch(self, token: str, batch: list[tuple[str, Fields]]) -> None:
        retention = int(self.online.retention_seconds * 1000)
        async with within(LOCK_MS / 1000), self.redis.pipeline(transaction=False) as pipeline:
            for name, fields in batch:
                keys = [self._lock, self.prefix + name]
                await self._write(keys, [token, retention, *chain.from_iterable(fields.items())], client=pipeline)
            if not all(await pipeline.execute()):
                raise StoreUnavailableError(LOCK_LOST)

    async def _keep_lock(self, token: str) -> None:
        """Extend the lock periodically, until this task is cancelled."""
        while True:
            await asyncio.sleep(LOCK_MS / 3000)
            await self._extend([self._lock], [token, LOCK_MS])


def label_record(number: int) -> str:
    """Return the name of the record of a row's label, from the hash of the row's key."""
    return f"label/{number:x}"


def request_record(number: int) -> str:
    """Return the name of the record of a request's first answer, from the hash of the row's key."""
    return f"request/{number:x}"


def _request_records(requests: RequestIndex) -> Iterator[tuple[str, Fields]]:
    for number, file, offset in requests.entries():
        if answer := requests.read(LogPosition(file, offset)):
            yield request_record(number), dict(zip(ANSWER_FIELDS, (answer.digest, answer.body.decode()), strict=True))


def _label_records(labelled: Mapping[int, int | str]) -> Iterator[tuple[str, Fields]]:
    return ((label_record(number), {LABEL: str(label)}) for number, label in labelled.items())
