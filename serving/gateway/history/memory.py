"""Interface of the gateway's memory (the online history), in this process or in a store that several gateways share."""

from collections.abc import Callable
from typing import Any, Protocol

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

    async def recall(self, row: Row) -> tuple[dict[str, Value], HistoryChange | None]:
        """Return the row's features, and the change to pass to :meth:`remember`.

        Raises:
            StoreUnavailableError: if the memory does not answer.
        """

    async def remember(self, journal: list[Any], change: HistoryChange | None) -> None:
        """Add a row to the history; repeating it for the same row changes nothing.

        Raises:
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
