"""Where the gateway's memory lies: in this process, or in a store that several gateways share."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from serving.breaker import CLOSED
from serving.log_files import Place
from serving.online import Change, Online, Row
from serving.online_store import OnlineStore
from serving.wire import Value

Seed = Callable[[Online], int]


class UnreachedError(OSError):
    """The shared memory gave no answer; what was asked of it may come again, and counts once.

    Args:
        after: Seconds after which to ask again.
    """

    def __init__(self, message: str, after: float = 1.0) -> None:
        super().__init__(message)
        self.after = after


class Memory(Protocol):
    """What the gateway remembers of a case."""

    async def fill(self, seed: Seed) -> int:
        """Fills a memory that is new; returns the number of rows that ``seed`` has put in.

        Raises:
            OSError: if the memory cannot be had.
        """

    def open(self) -> None:
        """Gets ready; call it once, after :meth:`fill` where there is a seed."""

    async def recall(self, row: Row) -> tuple[dict[str, Value], Change | None]:
        """The row's features, and what :meth:`remember` has to be given.

        Raises:
            UnreachedError: if the memory does not answer.
        """

    async def remember(self, journal: list[Any], change: Change | None) -> None:
        """Makes a row part of the past; again for the same row changes nothing.

        Raises:
            UnreachedError: if the memory does not answer.
        """

    async def takes(self, key: str, label: int | str) -> bool:
        """Whether the label is new.

        Raises:
            Conflict: if the row has another.
            UnreachedError: if the memory does not answer.
        """

    async def learn(self, key: str, label: int | str, known: int, journal: list[Any]) -> bool:
        """Takes a label once; False where the row has it already.

        Raises:
            Conflict: if the row has another.
            UnreachedError: if the memory does not answer.
        """

    def state(self) -> str:
        """The state of the breaker before it."""

    async def close(self, at: Place, labels_at: Place) -> None:
        """Lets go of it, with everything before these places of the logs in it."""


class Embedded:
    """The memory in this process, there again from checkpoint and logs.

    No call waits for anything: between a record's place in the log and the memory of it nothing else can happen.

    Args:
        online: The case.
        folder: Holds the logs and the checkpoint.
    """

    def __init__(self, online: Online, folder: Path) -> None:
        self.online, self.store = online, OnlineStore(online, folder)

    async def fill(self, seed: Seed) -> int:
        """See :class:`Memory`."""
        if not self.store.is_new:
            return 0
        count = await asyncio.to_thread(seed, self.online)
        self.store.checkpoint(Place(), Place())  # what was put in is in no log
        return count

    def open(self) -> None:
        """Loads the checkpoint and replays the logs."""
        self.store.restore()

    async def recall(self, row: Row) -> tuple[dict[str, Value], None]:
        """See :class:`Memory`."""
        return self.online.features(row), None

    async def remember(self, journal: list[Any], change: None) -> None:
        """See :class:`Memory`."""
        self.online.remember(journal)

    async def takes(self, key: str, label: int | str) -> bool:
        """See :class:`Memory`."""
        return self.store.takes(key, label)

    async def learn(self, key: str, label: int | str, known: int, journal: list[Any]) -> bool:
        """See :class:`Memory`."""
        return self.store.learn(key, label, known, journal)

    def state(self) -> str:
        """Nothing lies between."""
        return CLOSED

    async def close(self, at: Place, labels_at: Place) -> None:
        """Writes a checkpoint."""
        self.store.checkpoint(at, labels_at)
