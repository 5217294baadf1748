"""Conversion of large requests and responses outside the event loop, one at a time.

Parsers and NumPy hold Python's lock while they work, so a large conversion delays everything else, and several at once
would add up. One thread converts; the sum of the bytes and the number of values of a request are limited beforehand.
"""

import asyncio
import ctypes
import gc
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from serving.http.byte_budget import SMALL_BODY, ByteBudget
from serving.status_errors import ServingError

MAX_VALUES = 1 << 20  # values of a request, in JSON or in the lists of a message
TRIM_BYTES = 4 << 20  # bytes of a request after which memory is given back to the system
TRIM_SECONDS = 0.1  # time between two trims while large requests are under way
PAUSE_SHARE = 0.25  # pause after a conversion, as a share of its time: the event loop gets Python's lock then
Result = TypeVar("Result")


class LargeRequests:
    """Limits of large requests, and the thread that converts them.

    Attributes:
        budget: Counts the bytes of the large requests that are under way, over all interfaces.
        max_values: Largest number of values in one request.
    """

    def __init__(self, budget: ByteBudget | None = None, max_values: int = MAX_VALUES) -> None:
        self.budget, self.max_values = budget or ByteBudget(), max_values
        self._thread = ThreadPoolExecutor(1, "large-requests")
        self._trim: asyncio.TimerHandle | None = None
        self._pause = 0.0  # seconds before the next conversion

    def free_memory(self) -> None:
        """Give freed memory back to the system soon, and while large requests are under way; glibc keeps it otherwise."""
        if self._trim is None:
            self._trim = asyncio.get_running_loop().call_later(TRIM_SECONDS, self._start_trim)

    def _start_trim(self) -> None:
        self._trim = None
        self._thread.submit(_find_trim(), 0)
        if self.budget.used:
            self.free_memory()

    async def run(self, size: int, work: Callable[[], Result]) -> Result:
        """Return the result of ``work``, which runs here if it handles few bytes, else in the thread."""
        if size <= SMALL_BODY:
            return work()
        if size >= TRIM_BYTES:
            self.free_memory()
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._convert, work)

    def _convert(self, work: Callable[[], Result]) -> Result:
        time.sleep(self._pause)
        started = time.perf_counter()
        try:
            return _run_large(work)
        finally:
            self._pause = PAUSE_SHARE * (time.perf_counter() - started)

    def check_values(self, count: int) -> None:
        """Check the number of values of a request.

        Raises:
            ServingError: INVALID_ARGUMENT if there are too many.
        """
        if count > self.max_values:
            raise ServingError(
                "INVALID_ARGUMENT",
                f"The request has more than {self.max_values} values; send fewer rows, or tensors as tensor_content",
            )

    def close(self) -> None:
        """End the thread after its present work; what waits is cancelled."""
        if self._trim:
            self._trim.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)


def _run_large(work: Callable[[], Result]) -> Result:
    """Run without garbage collection, which would go through the growing document again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        return work()
    finally:
        if enabled:
            gc.enable()


@cache
def _find_trim() -> Callable[[int], object]:
    """Return the function of glibc that gives freed memory back to the system; other C libraries do so by themselves."""
    return getattr(ctypes.CDLL(None), "malloc_trim", lambda padding: None)
