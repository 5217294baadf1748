"""The online history in the gateway's own process, restored from a checkpoint and the logs."""

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.gateway.history import memory_checkpoint
from serving.gateway.history.first_answer import FirstAnswer
from serving.gateway.history.memory import AppendedRecord, Seed
from serving.gateway.history.online_store import CHECKPOINT_ROWS, OnlineStore
from serving.gateway.log.log_files import LogPosition
from serving.gateway.log.prediction_log import PredictionLog
from serving.gateway.log.tf_example import Value
from serving.gateway.model_calls.circuit_breaker import CLOSED
from serving.gateway.use_case_interface import HistoryChange, Online, Row

POLL_SECONDS = 0.5
# Pause between two pieces of a checkpoint, each of which takes about a millisecond: requests are hardly delayed.
PAUSE_SECONDS = 0.005
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointSchedule:
    """When a checkpoint is written: whichever limit is reached first.

    Attributes:
        rows: Number of new rows and labels.
        seconds: Seconds since the last checkpoint, if there are new rows or labels.
    """

    rows: int = CHECKPOINT_ROWS
    seconds: float = 300.0


class EmbeddedMemory:
    """A memory in this process; see ``serving.gateway.history.memory.Memory``.

    Its calls never yield to the event loop: a record gets its log position and its row is remembered in one step. A
    checkpoint at a log position therefore holds exactly the rows before it.

    Args:
        online: The use case.
        folder: Holds the logs and the checkpoint.
        checkpoint_schedule: When checkpoints are written.
    """

    def __init__(
        self, online: Online, folder: Path, checkpoint_schedule: CheckpointSchedule = CheckpointSchedule()
    ) -> None:  # noqa: B008 (frozen)
        self.online, self.store, self.checkpoint_schedule = online, OnlineStore(online, folder), checkpoint_schedule
        self._logs: tuple[PredictionLog, PredictionLog]  # set by :meth:`open`
        self._new, self._checkpointed_at = 0, time.monotonic()
        self._closing = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    async def fill(self, seed: Seed) -> int:
        """See ``Memory``."""
        if not self.store.is_new:
            return 0
        return await asyncio.to_thread(self._seed, seed)

    def _seed(self, seed: Seed) -> int:
        count = seed(self.online)
        self.store.checkpoint(LogPosition(), LogPosition())  # seeded rows are in no log
        return count

    def open(self, predictions: PredictionLog, labels: PredictionLog) -> None:
        """Load the checkpoint and replay the logs."""
        restored = self.store.restore()
        self._new, self._logs, self.store.labels_at = (
            restored.rows + restored.labels,
            (predictions, labels),
            labels.position,
        )

    def begin(self) -> None:
        """Start writing checkpoints."""
        self._writer = asyncio.get_running_loop().create_task(self._write_checkpoints())

    async def recall(self, row: Row, request_id: str) -> tuple[dict[str, Value], None, FirstAnswer | None]:
        """See ``Memory``."""
        earlier = self.store.requests.find(request_id) if request_id else None
        return self.online.features(row), None, earlier

    async def remember(
        self, journal: list[Any], change: HistoryChange | None, answer: FirstAnswer, record: AppendedRecord
    ) -> None:
        """See ``Memory``."""
        self.online.remember(journal)
        if answer.request_id:
            self.store.requests.add(answer.request_id, record.position)
        self._new += 1

    async def is_new_label(self, key: str, label: int | str) -> bool:
        """See ``Memory``."""
        return self.store.is_new_label(key, label)

    async def learn(self, key: str, label: int | str, known_at: int, journal: list[Any]) -> bool:
        """See ``Memory``; the label is in its log already, and no other label is being processed."""
        self._new, self.store.labels_at = self._new + 1, self._logs[1].position
        return self.store.learn(key, label, known_at, journal)

    def state(self) -> str:
        """Return ``closed``: there is no circuit breaker."""
        return CLOSED

    def can_remove_file(self, file: int) -> bool:
        """Return True for log files before the checkpoint's position; without a checkpoint, for none."""
        return file < self.store.replay_from.file

    async def close(self) -> None:
        """Write a last checkpoint."""
        self._closing.set()
        if self._writer:
            await self._writer
        self.store.checkpoint(*(prediction_log.position for prediction_log in self._logs))

    async def _write_checkpoints(self) -> None:
        while not self._closing.is_set():
            await self._wait(POLL_SECONDS)
            late = time.monotonic() - self._checkpointed_at >= self.checkpoint_schedule.seconds
            if self._closing.is_set() or self._new < self.checkpoint_schedule.rows and not (late and self._new):
                continue
            self._new, self._checkpointed_at = 0, time.monotonic()
            try:
                await self.checkpoint()
            except Exception as error:  # the previous checkpoint stays valid, with the log after it
                log.error("No checkpoint was written: %s", error)

    async def checkpoint(self) -> None:
        """Write the memory as it is at the time of the call, while requests are answered.

        Raises:
            OSError: if the checkpoint, or the log up to this position, cannot be written.
        """
        predictions = self._logs[0]
        position, text = predictions.position, []
        pieces, log_written = self.store.pieces(position, self.store.labels_at), predictions.wait_until_written()
        for piece in pieces:
            text.append(piece)
            await self._wait(PAUSE_SECONDS)
        await log_written  # a row whose record did not reach the disk was not acknowledged and must not be checkpointed
        await asyncio.to_thread(memory_checkpoint.save, self.store.folder, text)
        self.store.replay_from = position

    async def _wait(self, seconds: float) -> None:
        """Sleep, but return at once while closing."""
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return
