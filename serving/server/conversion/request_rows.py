"""Inputs of one request that waits for its batch."""

import asyncio
from typing import Any

import numpy as np


class Rows:
    """Inputs of one request: ``arrays`` in the signature's order, or ``columns``, one list of rows per input.

    Lists are converted to arrays when a batch is formed: once per input, not once per request.

    Attributes:
        count: Number of rows.
        future: Receives the outputs; set when the request is queued.
        timer: Timer of the deadline, if there is one.
    """

    __slots__ = ("arrays", "columns", "count", "future", "timer")

    def __init__(
        self, count: int, arrays: list[np.ndarray] | None = None, columns: list[list[Any]] | None = None
    ) -> None:
        self.count, self.arrays, self.columns = count, arrays or [], columns
        self.future: asyncio.Future[list[np.ndarray]]
        self.timer: asyncio.TimerHandle | None = None
