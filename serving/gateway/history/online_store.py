"""The online history of a case, and how it is restored after a crash.

The use case itself holds the history (``serving.gateway.use_case_interface.Online``). The prediction log is its
journal: a row is remembered when its record is appended to the log, and the answer waits until the log is on disk. One
write and one fsync thus make both the answer and the history durable. After ``kill -9`` the history holds exactly the
acknowledged rows, in order. A second store (SQLite, for example) would cost a second fsync per request and could
disagree with the log. A checkpoint keeps restarts short: the history as JSON, with the log positions that it covers.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from serving.gateway.history import memory_checkpoint
from serving.gateway.history.first_answer import hash_key, read_request_id
from serving.gateway.history.memory_checkpoint import Checkpoint
from serving.gateway.history.request_index import RequestIndex
from serving.gateway.log.log_files import LogPosition, first_file, next_position, read_log
from serving.gateway.log.tf_example import decode
from serving.gateway.use_case_interface import Online

JOURNAL = "served/journal"
PREDICTIONS, LABELS = "predictions", "labels"
# Rows between two checkpoints; replaying this many takes about a second.
CHECKPOINT_ROWS = 50_000


@dataclass(frozen=True)
class RestoreResult:
    """Result of a restore.

    Attributes:
        rows, labels: Number of rows and labels replayed from the logs.
        seconds: Duration, including the loading of the checkpoint.
    """

    rows: int
    labels: int
    seconds: float


class LabelConflictError(ValueError):
    """The row already has another label."""


class OnlineStore:
    """The history of one case, with its checkpoint and labels.

    Args:
        online: The use case.
        folder: Holds the folders of both logs and the checkpoint.

    Attributes:
        at, labels_at: Positions in the logs up to which the history is restored.
        labelled: Labels by the hash of their row's key.
        requests: Finds the first answer to a request.
        replay_from: Position in the prediction log from which a restore has to replay, after the checkpoint on disk.
    """

    def __init__(self, online: Online, folder: Path) -> None:
        self.online, self.folder = online, folder
        self.at, self.labels_at = LogPosition(), LogPosition()
        self.labelled: dict[int, int | str] = {}
        self.requests = RequestIndex(folder / PREDICTIONS)
        self.replay_from = LogPosition()

    @property
    def is_new(self) -> bool:
        """Whether the folder holds neither a checkpoint nor a prediction log."""
        return not (self.folder / memory_checkpoint.FILE).exists() and not any(self.folder.glob(f"{PREDICTIONS}/*.*"))

    def restore(self, progress: Callable[[int], None] = lambda rows: None) -> RestoreResult:
        """Load the checkpoint and replay the logs after it.

        Args:
            progress: Called with the number of replayed rows after every ``CHECKPOINT_ROWS`` rows.

        Raises:
            CorruptRecordError: if a log file is damaged.
            ValueError: if the checkpoint is damaged.
        """
        began, rows, labels = time.monotonic(), 0, 0
        self._load()
        for position, record in read_log(self.folder / PREDICTIONS, self.at):
            self._replay(record, position)
            rows, self.at = rows + 1, next_position(position, record)
            if rows % CHECKPOINT_ROWS == 0:
                progress(rows)
        for position, record in read_log(self.folder / LABELS, self.labels_at):
            self.learn(*read_journal(record))
            labels, self.labels_at = labels + 1, next_position(position, record)
        return RestoreResult(rows, labels, time.monotonic() - began)

    def _replay(self, record: bytes, position: LogPosition) -> None:
        if self.online.has_history:
            self.online.remember(read_journal(record))
        if request_id := read_request_id(record):
            self.requests.add(request_id, position)

    def learn(self, key: str, label: int | str, known_at: int, journal: list[Any]) -> bool:
        """Add a label to the history; return False if the row has it already.

        Raises:
            LabelConflictError: if the row has another label.
        """
        if not self.is_new_label(key, label):
            return False
        self.labelled[hash_key(key)] = label
        self.online.learn(journal, label, known_at)
        return True

    def is_new_label(self, key: str, label: int | str) -> bool:
        """Return whether the label is new; False if the row has the same label already.

        Raises:
            LabelConflictError: if the row has another label.
        """
        previous = self.labelled.get(hash_key(key))
        if previous is not None and previous != label:
            raise LabelConflictError(f"'{key}' is labelled {previous} already.")
        return previous is None

    def checkpoint(self, at: LogPosition, labels_at: LogPosition) -> None:
        """Write the history, which covers everything before the two log positions, atomically."""
        memory_checkpoint.save(self.folder, self.pieces(at, labels_at))
        self.replay_from = at

    def pieces(self, at: LogPosition, labels_at: LogPosition) -> Iterator[bytes]:
        """Yield the checkpoint's text as of the time of the call; rows and labels may arrive between two pieces."""
        self.requests.forget_files_before(first_file(self.folder / PREDICTIONS))
        return memory_checkpoint.encode_pieces(
            Checkpoint(at, labels_at, self.labelled, self.requests.entries(), self.online.snapshot())
        )

    def _load(self) -> None:
        if checkpoint := memory_checkpoint.load(self.folder):
            self.at, self.labels_at, self.labelled = checkpoint.at, checkpoint.labels_at, dict(checkpoint.labelled)
            for state in checkpoint.states:
                self.online.load(state)
            self.requests.load(checkpoint.requests)
            self.replay_from = checkpoint.at


def read_journal(record: bytes) -> Any:
    """Return the journal of a record."""
    return orjson.loads(decode(record, (JOURNAL,))[JOURNAL][0])
