"""What the gateway asks of its memory, be it in this process or in a store that several gateways share."""

from collections.abc import Callable
from typing import Any, Protocol

from serving.gateway.log.prediction_log import PredictionLog
from serving.gateway.log.tf_example import Value
from serving.gateway.use_case_interface import Change, Online, Row

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

    def open(self, predictions: PredictionLog, labels: PredictionLog) -> None:
        """Gets ready; call it once, after :meth:`fill` where there is a seed.

        Args:
            predictions: The log that rows are written to before they are remembered; open already.
            labels: The same for labels.
        """

    def begin(self) -> None:
        """Begins what it does by itself; call it from the event loop."""

    def spares(self, file: int) -> bool:
        """Whether a file of the predictions' log is not needed any more to restore the memory."""

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

    async def close(self) -> None:
        """Lets go of it; the logs are closed already."""
