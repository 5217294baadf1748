"""Ctrl-C and SIGTERM while a run is executed."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 130  # of a command that Ctrl-C ended: 128 and the number of SIGINT


class Interruption:
    """Whether the run is to stop.

    A signal raises KeyboardInterrupt at once. Python drops an exception that is raised in a callback, such as one at a fork,
    and libraries drop those of their imports; the signal is therefore remembered, too, and the run checks it regularly.
    """

    def __init__(self) -> None:
        self.is_requested = False

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Context manager that receives the signals; outside the main thread, which alone can do so, it does nothing.

        A process that ignores SIGINT, as one does that ends with its parent, goes on ignoring it.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.getsignal(signal.SIGINT)
        if previous is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._handle)
        signal.signal(signal.SIGTERM, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)
            signal.signal(signal.SIGTERM, signal.default_int_handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has arrived."""
        if self.is_requested:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.is_requested = True
        raise KeyboardInterrupt
