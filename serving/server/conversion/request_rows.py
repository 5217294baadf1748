"""The inputs of one request while it waits for its batch."""

import asyncio
from typing import Any

import numpy as np


class Rows:
    """Inputs of one request: ``arrays`` in the signature's order, or ``columns``, a plain list of rows an input.

    Lists are turned into arrays when a batch is put together, once an input and not once a request.

    Attributes:
        count: How many rows.
        future: Where the outputs come to, once it waits.
        timer: Its deadline, if it has one.
    """

    __slots__ = ("arrays", "columns", "count", "future", "timer")

    def __init__(
        self, count: int, arrays: list[np.ndarray] | None = None, columns: list[list[Any]] | None = None
    ) -> None:
        self.count, self.arrays, self.columns = count, arrays or [], columns
        self.future: asyncio.Future[list[np.ndarray]]
        self.timer: asyncio.TimerHandle | None = None
