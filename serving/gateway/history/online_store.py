"""What the gateway remembers between requests, and how it is there again after a crash.

The memory itself is the case's (``serving.gateway.use_case_interface.Online``). The prediction log is its journal: a row is
remembered when its record is handed to the log, and the answer waits until the log is on disk. So one write and one fsync
make both the answer and the memory durable, and what is remembered after ``kill -9`` is what was acknowledged, in order. A
second store beside (SQLite, say) would be a second fsync a request, and could disagree with the log.
A checkpoint keeps restarts short: the memory as JSON, with the places in the logs up to which it holds.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from serving.gateway.history import memory_checkpoint
from serving.gateway.history.memory_checkpoint import Checkpoint
from serving.gateway.log.log_files import Place, after, read
from serving.gateway.log.tf_example import first, text
from serving.gateway.use_case_interface import Online

JOURNAL = "served/journal"
PREDICTIONS, LABELS = "predictions", "labels"
# Replaying so many rows takes about a second.
ROWS = 50_000


@dataclass(frozen=True)
class Restored:
    """What a start found.

    Attributes:
        rows, labels: How many were replayed from the logs.
        seconds: How long it took, checkpoint included.
    """

    rows: int
    labels: int
    seconds: float


class Conflict(ValueError):
    """A row has another label already."""


class OnlineStore:
    """The memory of one case.

    Args:
        online: The case.
        folder: Holds the folders of both logs and the checkpoint.

    Attributes:
        kept: The place in the prediction log from which the checkpoint on disk needs it.
    """

    def __init__(self, online: Online, folder: Path) -> None:
        self.online, self.folder = online, folder
        self.at, self.labels_at = Place(), Place()
        self.labelled: dict[int, int | str] = {}
        self.kept = Place()

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever remembered here."""
        return not (self.folder / memory_checkpoint.FILE).exists() and not any(self.folder.glob(f"{PREDICTIONS}/*.*"))

    def restore(self, progress: Callable[[int], None] = lambda rows: None) -> Restored:
        """Loads the checkpoint and replays what came after it.

        Raises:
            CorruptError: if a log file is damaged.
            ValueError: if the checkpoint is.
        """
        began, rows, labels = time.monotonic(), 0, 0
        self._load()
        for place, record in read(self.folder / PREDICTIONS, self.at):
            if self.online.remembers:
                self.online.remember(orjson.loads(last(record)))
            rows, self.at = rows + 1, after(place, record)
            if rows % ROWS == 0:
                progress(rows)
        for place, record in read(self.folder / LABELS, self.labels_at):
            self.learn(*orjson.loads(last(record)))
            labels, self.labels_at = labels + 1, after(place, record)
        return Restored(rows, labels, time.monotonic() - began)

    def learn(self, key: str, label: int | str, known: int, journal: list[Any]) -> bool:
        """Takes a label once; False where the row has it already.

        Raises:
            Conflict: if the row has another.
        """
        if not self.takes(key, label):
            return False
        self.labelled[hashed(key)] = label
        self.online.learn(journal, label, known)
        return True

    def takes(self, key: str, label: int | str) -> bool:
        """Whether the label is new.

        Raises:
            Conflict: if the row has another.
        """
        known = self.labelled.get(hashed(key))
        if known is not None and known != label:
            raise Conflict(f"'{key}' is labelled {known} already.")
        return known is None

    def checkpoint(self, at: Place, labels_at: Place) -> None:
        """Writes the memory, which holds everything before the two places; whole or not at all."""
        memory_checkpoint.save(self.folder, self.pieces(at, labels_at))
        self.kept = at

    def pieces(self, at: Place, labels_at: Place) -> Iterator[bytes]:
        """The checkpoint's text, of the memory at this moment, while rows and labels may come between two pieces."""
        return memory_checkpoint.pieces(Checkpoint(at, labels_at, self.labelled, self.online.snapshot()))

    def _load(self) -> None:
        if told := memory_checkpoint.load(self.folder):
            self.at, self.labels_at, self.labelled = told.at, told.labels_at, dict(told.labelled)
            for state in told.states:
                self.online.load(state)
            self.kept = told.at


def journal(values: Any) -> bytes:
    """The entry with which a record ends."""
    return text(JOURNAL, orjson.dumps(values))


def last(record: bytes) -> bytes:
    """The journal of a record, found without reading the rest: JSON holds no control character, so nothing looks like it."""
    return first(record, record.rindex(MARK) + len(MARK))


MARK = journal(None)[2 : 2 + 2 + len(JOURNAL)]


def hashed(key: str) -> int:
    """A number for a key; two keys have the same once in a long time."""
    return int.from_bytes(blake2b(key.encode(), digest_size=7).digest(), "big")
