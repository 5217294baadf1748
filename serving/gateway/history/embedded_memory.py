"""The gateway's memory in its own process, there again from checkpoint and logs."""

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.gateway.circuit_breaker import CLOSED
from serving.gateway.history import memory_checkpoint
from serving.gateway.history.memory import Seed
from serving.gateway.history.online_store import ROWS, OnlineStore
from serving.gateway.log.log_files import Place
from serving.gateway.log.prediction_log import PredictionLog
from serving.gateway.log.tf_example import Value
from serving.gateway.use_case_interface import Change, Online, Row

LOOK_SECONDS = 0.5
# Between two pieces of a checkpoint, each of about a millisecond: requests hardly notice it.
PAUSE_SECONDS = 0.005
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """When a checkpoint is written.

    Attributes:
        rows: After so many rows and labels.
        seconds: After so many seconds, if anything came.
    """

    rows: int = ROWS
    seconds: float = 300.0


class Embedded:
    """The memory in this process; see ``serving.gateway.history.memory.Memory``.

    Its calls wait for nothing: a record gets its place in the log and its row is remembered without anything between, so a
    checkpoint at a place holds what lies before it.

    Args:
        online: The case.
        folder: Holds the logs and the checkpoint.
        pace: See there.
    """

    def __init__(self, online: Online, folder: Path, pace: Pace = Pace()) -> None:  # noqa: B008 (frozen)
        self.online, self.store, self.pace = online, OnlineStore(online, folder), pace
        self._logs: tuple[PredictionLog, PredictionLog]  # from :meth:`open` on
        self._new, self._since = 0, time.monotonic()
        self._closing = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    async def fill(self, seed: Seed) -> int:
        """See ``Memory``."""
        if not self.store.is_new:
            return 0
        return await asyncio.to_thread(self._seeded, seed)

    def _seeded(self, seed: Seed) -> int:
        count = seed(self.online)
        self.store.checkpoint(Place(), Place())  # what was put in is in no log
        return count

    def open(self, predictions: PredictionLog, labels: PredictionLog) -> None:
        """Loads the checkpoint and replays the logs."""
        restored = self.store.restore()
        self._new, self._logs, self.store.labels_at = (
            restored.rows + restored.labels,
            (predictions, labels),
            labels.place,
        )

    def begin(self) -> None:
        """Begins to write checkpoints."""
        self._writer = asyncio.get_running_loop().create_task(self._checkpoints())

    async def recall(self, row: Row) -> tuple[dict[str, Value], None]:
        """See ``Memory``."""
        return self.online.features(row), None

    async def remember(self, journal: list[Any], change: Change | None) -> None:
        """See ``Memory``."""
        self.online.remember(journal)
        self._new += 1

    async def takes(self, key: str, label: int | str) -> bool:
        """See ``Memory``."""
        return self.store.takes(key, label)

    async def learn(self, key: str, label: int | str, known: int, journal: list[Any]) -> bool:
        """See ``Memory``; the label is in its log, and no other label is under way."""
        self._new, self.store.labels_at = self._new + 1, self._logs[1].place
        return self.store.learn(key, label, known, journal)

    def state(self) -> str:
        """Nothing lies between."""
        return CLOSED

    def spares(self, file: int) -> bool:
        """Files before the checkpoint's place; none where there is no checkpoint."""
        return file < self.store.kept.file

    async def close(self) -> None:
        """Writes a checkpoint."""
        self._closing.set()
        if self._writer:
            await self._writer
        self.store.checkpoint(*(one.place for one in self._logs))

    async def _checkpoints(self) -> None:
        while not self._closing.is_set():
            await self._wait(LOOK_SECONDS)
            late = time.monotonic() - self._since >= self.pace.seconds
            if self._closing.is_set() or self._new < self.pace.rows and not (late and self._new):
                continue
            self._new, self._since = 0, time.monotonic()
            try:
                await self.checkpoint()
            except Exception as error:  # the one before holds still, and the log from there on
                log.error("No checkpoint was written: %s", error)

    async def checkpoint(self) -> None:
        """Writes the memory of this moment, while requests are answered.

        Raises:
            OSError: if the disk does not take it, or not what the log holds up to this moment.
        """
        predictions = self._logs[0]
        at, text = predictions.place, []
        pieces, settled = self.store.pieces(at, self.store.labels_at), predictions.settled()
        for piece in pieces:
            text.append(piece)
            await self._wait(PAUSE_SECONDS)
        await settled  # what is remembered of a row that nobody was answered has no place in a checkpoint
        await asyncio.to_thread(memory_checkpoint.save, self.store.folder, text)
        self.store.kept = at

    async def _wait(self, seconds: float) -> None:
        """Not at all while closing."""
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return
