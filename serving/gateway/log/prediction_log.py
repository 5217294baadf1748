"""The prediction log: every answer is on disk before it is sent. TFRecord files, one write and one fsync per group.

While one group is being written, the next one collects records. It is written when every request in flight has added
its record, or after ``GATHER_SECONDS``. A record thus waits for at most the previous group, this time, and its own
write and fsync, regardless of the number of clients. Clients that are answered together tend to send their next
requests together, which the model then scores as one batch.
"""

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from serving.atomic_file import sync_to_disk
from serving.gateway.log import tfrecords
from serving.gateway.log.durable_write import find_write_problem, write_durably
from serving.gateway.log.log_files import DONE, OPEN, LogPosition, file_number, recover_file

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.002
CHECK_SECONDS = 1.0  # how long a result of check_writable() holds


class LogWriteError(OSError):
    """The records could not be written; none of the answers that fail with this error was acknowledged."""


@dataclass(frozen=True)
class LogLimits:
    """Rotation and retention of log files.

    Attributes:
        file_bytes: Size in bytes at which a file is closed.
        file_seconds: Age in seconds at which a file is closed, with the next record.
        keep_bytes: Total size of closed files in bytes; above it the oldest are removed; 0 keeps all.
        keep_seconds: Closed files last written longer ago than this are removed; 0 keeps all.
    """

    file_bytes: int = 64 << 20
    file_seconds: float = 3600.0
    keep_bytes: int = 0
    keep_seconds: float = 60 * 86_400.0


class PredictionLog:
    """A folder of records with a single writer, which holds a lock on it. Use it from one event loop.

    Args:
        folder: Created if it does not exist.
        limits: Rotation and retention.
        removable: Called with the number of a file before it is removed; False keeps the file.
        write: Writes bytes to a file descriptor and makes them durable.
        expected: Returns the number of records in flight, including those that are waiting here.
    """

    def __init__(
        self,
        folder: Path,
        limits: LogLimits = LogLimits(),  # noqa: B008 (frozen)
        removable: Callable[[int], bool] = lambda number: True,
        write: Callable[[int, bytes], None] | None = None,
        expected: Callable[[], int] = lambda: 0,
    ) -> None:
        self.folder, self.limits, self.removable = folder, limits, removable
        self._write, self._expected = write or write_durably, expected
        self._timer: asyncio.TimerHandle | None = None
        self.records = self.groups = self.torn_bytes = 0
        self._buffer: list[bytes] = []
        self._group: asyncio.Future[None] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._busy = False
        self._problem, self._checked_at = "", -CHECK_SECONDS
        self._thread = ThreadPoolExecutor(1, "log")
        self.on_file_closed: Callable[[int], None] = lambda number: None

    def open(self) -> "PredictionLog":
        """Lock the folder, truncate incomplete records of a crash, and start a new file.

        Raises:
            OSError: if another process holds the lock, or the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise OSError(f"Another process writes to {self.folder}; stop it, or use another --home.") from None
        for path in sorted(self.folder.glob(f"*{OPEN}")):
            self.torn_bytes += recover_file(path)
        self.number, self.size = max((file_number(path) for path in self.folder.iterdir()), default=0) + 1, 0
        self._create_file(self.number)
        return self

    def _create_file(self, file: int) -> None:
        """Create a file. Also runs in the writer thread, so it must not change ``number`` and ``size``."""
        self._path = self.folder / f"{file:08d}{OPEN}"
        self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o644)
        sync_to_disk(self.folder)
        self._durable, self._born = 0, time.monotonic()

    @property
    def position(self) -> LogPosition:
        """Position of the next record."""
        return LogPosition(self.number, self.size)

    @property
    def lag(self) -> int:
        """Number of records waiting to be written."""
        return len(self._buffer)

    def append(self, data: bytes) -> "asyncio.Future[None]":
        """Add a record; return a future that is done once it is on disk, or fails with LogWriteError."""
        if self._group is None:
            self._group = asyncio.get_running_loop().create_future()
        record = tfrecords.frame_record(data)
        self._buffer.append(record)
        self.size += len(record)
        if not self._busy:
            self._schedule()
        return self._group

    def wait_until_written(self) -> "asyncio.Future[None]":
        """Return a future that is done when all records appended so far are on disk; it fails with LogWriteError."""
        last = self._group or self._writing
        if last is None:
            last = asyncio.get_running_loop().create_future()
            last.set_result(None)
        return asyncio.shield(last)  # other callers wait for the same future

    async def check_writable(self) -> str:
        """Return why records cannot be written at the moment; empty if they can.

        It writes to the folder itself, so that it notices a repaired disk even if no request arrives meanwhile.
        """
        if time.monotonic() - self._checked_at >= CHECK_SECONDS:
            self._checked_at = time.monotonic()
            self._problem = await asyncio.to_thread(find_write_problem, self.folder, self._write)
        return self._problem

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        if len(self._buffer) >= self._expected():
            loop.call_soon(self._flush)
        elif self._timer is None:
            self._timer = loop.call_later(GATHER_SECONDS, self._flush)

    def _flush(self) -> None:
        """Pass the group to the writer thread; if it is busy, do nothing: its end schedules the next flush."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._busy or self._group is None:
            return
        group, data, count, file = self._group, b"".join(self._buffer), len(self._buffer), self.number
        self._group, self._writing, self._buffer, self._busy = None, group, [], True
        full = self.size >= self.limits.file_bytes or time.monotonic() - self._born >= self.limits.file_seconds
        if full:  # later records go to the next file, which the thread creates
            self.number, self.size = file + 1, 0
        loop = asyncio.get_running_loop()

        def work() -> None:
            error = self._commit(file, data, full)
            with suppress(RuntimeError):  # the loop is closed, so nothing waits for the group any more
                loop.call_soon_threadsafe(self._finish_group, group, count, error)

        self._thread.submit(work)

    def _commit(self, file: int, data: bytes, full: bool) -> OSError | None:
        """Write the group to disk and, if the file is full, start the next one. Runs in the writer thread."""
        try:
            if self._file < 0:
                self._create_file(file)
            self._write(self._file, data)
            self._durable += len(data)
            if full:
                self._close_file()
                self._create_file(file + 1)
        except OSError as error:
            return error
        return None

    def _close_file(self) -> None:
        file, self._file = self._file, -1
        os.close(file)
        if self._durable:
            os.rename(self._path, self._path.with_suffix(DONE))
            sync_to_disk(self.folder)
        else:
            self._path.unlink()
        self._remove_old_files()
        self.on_file_closed(int(self._path.stem))

    def _finish_group(self, group: "asyncio.Future[None]", count: int, error: OSError | None) -> None:
        self._busy, self._writing = False, None
        if error is None:
            self.records, self.groups = self.records + count, self.groups + 1
            if not group.done():
                group.set_result(None)
        else:
            self._fail_groups(group, error)
        if self._group is not None:
            self._schedule()

    def _fail_groups(self, group: "asyncio.Future[None]", error: OSError) -> None:
        """Fail the group and the waiting one, whose records were positioned after it, and start a new file.

        After a failed fsync the contents of the file on disk are unknown, so nothing more is written to it.
        """
        log.error("The prediction log cannot be written: %s", error)
        self._problem, self._checked_at = error.strerror or str(error), time.monotonic()
        waiting, self._group, self._buffer = self._group, None, []
        for future in (group, waiting):
            if future is not None and not future.done():
                future.set_exception(LogWriteError(f"The prediction log cannot be written: {error.strerror or error}."))
        self.number, self.size = self.number + 1, 0
        try:
            if self._file >= 0:
                os.ftruncate(self._file, self._durable)
                self._close_file()
        except OSError as close_error:
            log.error("%s cannot be closed: %s", self._path, close_error)
            self._file = -1

    def _remove_old_files(self) -> None:
        """Remove the oldest closed files that exceed the limits."""
        files = self.files()
        sizes = [path.stat().st_size for path in files]
        total, now = sum(sizes), time.time()
        for path, size in zip(files, sizes, strict=True):
            too_old = self.limits.keep_seconds and now - path.stat().st_mtime > self.limits.keep_seconds
            too_large = self.limits.keep_bytes and total > self.limits.keep_bytes
            if not (too_old or too_large) or not self.removable(file_number(path)):
                break
            path.unlink()
            total -= size

    def files(self) -> list[Path]:
        """Return the closed files, the oldest first."""
        return sorted(self.folder.glob(f"*{DONE}"))

    async def close(self) -> None:
        """Write pending records, close the file and unlock the folder."""
        while self._busy or self._group is not None:
            self._flush()
            await asyncio.sleep(0.001)
        self._thread.shutdown()
        if self._file >= 0:
            self._close_file()
        os.close(self._lock)
