"""Interface of the gateway's memory (the online history), in this process or in a store that several gateways share."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from serving.gateway.history.first_answer import FirstAnswer
from serving.gateway.log.log_files import LogPosition
from serving.gateway.log.prediction_log import PredictionLog
from serving.gateway.log.tf_example import Value
from serving.gateway.use_case_interface import HistoryChange, Online, Row

Seed = Callable[[Online], int]


class StoreUnavailableError(OSError):
    """The shared history store does not answer. Every call may be retried: each change is applied only once.

    Args:
        message: One sentence for the client.
        retry_after: Seconds after which to retry.
    """

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class AppendedRecord:
    """A record that was appended to the prediction log.

    Attributes:
        position: Its position.
        written: Done once the record is on disk.
    """

    position: LogPosition
    written: "asyncio.Future[None]"


class Memory(Protocol):
    """The online history of one case."""

    async def fill(self, seed: Seed) -> int:
        """Fill a new memory with ``seed``; return the number of rows added, 0 if the memory is not new.

        Raises:
            OSError: if the memory is not available.
        """

    def open(self, predictions: PredictionLog, labels: PredictionLog) -> None:
        """Restore the memory; call it once, after :meth:`fill` if there is a seed.

        Args:
            predictions: The open log to which rows are written before they are remembered.
            labels: The open log to which labels are written before they are learnt.
        """

    def begin(self) -> None:
        """Start background work; call it from the event loop."""

    def can_remove_file(self, file: int) -> bool:
        """Return whether a file of the prediction log is no longer needed to restore the memory."""

    async def recall(
        self, row: Row, request_id: str
    ) -> tuple[dict[str, Value], HistoryChange | None, FirstAnswer | None]:
        """Return the row's features, the change to pass to :meth:`remember`, and the request's first answer, if any.

        Args:
            row: The row to score.
            request_id: The id under which the client may repeat the request; empty if it gave none.

        Raises:
            StoreUnavailableError: if the memory does not answer.
        """

    async def remember(
        self, journal: list[Any], change: HistoryChange | None, answer: FirstAnswer, record: AppendedRecord
    ) -> FirstAnswer | None:
        """Add a row to the history, and its answer for later requests of the same id.

        Args:
            journal: The row's journal.
            change: What :meth:`recall` returned.
            answer: The answer to the row's request.
            record: The row's record in the prediction log.

        Returns:
            None; or, if another gateway has answered the same request meanwhile, its answer, and nothing was added.

        Raises:
            LogWriteError: if the record cannot be written.
            StoreUnavailableError: if the memory does not answer.
        """

    async def is_new_label(self, key: str, label: int | str) -> bool:
        """Return whether the label is new; False if the row has the same label already.

        Raises:
            LabelConflictError: if the row has another label.
            StoreUnavailableError: if the memory does not answer.
        """

    async def learn(self, key: str, label: int | str, known_at: int, journal: list[Any]) -> bool:
        """Add a label to the history; return False if the row has it already.

        Args:
            key: The row's key.
            label: The label.
            known_at: When the label became known, in microseconds since 1970.
            journal: The row's journal.

        Raises:
            LabelConflictError: if the row has another label.
            StoreUnavailableError: if the memory does not answer.
        """

    def state(self) -> str:
        """Return the state of the memory's circuit breaker."""

    async def close(self) -> None:
        """Release the memory; the logs are closed already."""
