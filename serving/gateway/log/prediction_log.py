"""What was answered, on disk before the answer goes out: TFRecord files, a group of records a write and an fsync.

While one group is being written the next one gathers. It is written when every request under way has its record in it, or
after ``GATHER`` seconds: a record waits for at most the group before it, that time, and its own write and fsync, however
many clients there are. Clients that are answered together also come again together, and then the model runs them as one.
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

from serving.gateway.log import tfrecords
from serving.gateway.log.log_files import DONE, OPEN, Place, number, recovered, synced

log = logging.getLogger(__name__)

GATHER = 0.002


class UnwrittenError(OSError):
    """The disk did not take the records; none of those that got this error was acknowledged."""


@dataclass(frozen=True)
class Limits:
    """When files are closed and removed.

    Attributes:
        file_bytes: A file of this size is closed.
        file_seconds: A file of this age is closed with the next record.
        keep_bytes: Closed files beyond this are removed, the oldest first; 0 keeps all.
        keep_seconds: Closed files last written longer ago are removed; 0 keeps all.
    """

    file_bytes: int = 64 << 20
    file_seconds: float = 3600.0
    keep_bytes: int = 0
    keep_seconds: float = 60 * 86_400.0


class PredictionLog:
    """One writer's folder of records. Use it from one event loop; it holds a lock on the folder.

    Args:
        folder: Made if it is not there.
        limits: See there.
        removable: Asked for every file that is about to be removed; False keeps it.
        write: Writes bytes to a descriptor and makes them durable.
        expected: How many records are under way, those that wait here among them.
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        removable: Callable[[int], bool] = lambda number: True,
        write: Callable[[int, bytes], None] | None = None,
        expected: Callable[[], int] = lambda: 0,
    ) -> None:
        self.folder, self.limits, self.removable = folder, limits, removable
        self._write, self._expected = write or written, expected
        self._timer: asyncio.TimerHandle | None = None
        self.records = self.groups = self.torn_bytes = 0
        self._buffer: list[bytes] = []
        self._group: asyncio.Future[None] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._busy = self._closed = False
        self._thread = ThreadPoolExecutor(1, "log")
        self.sealed: Callable[[int], None] = lambda number: None

    def open(self) -> "PredictionLog":
        """Takes the folder, cuts off what a crash has left torn and begins a new file.

        Raises:
            OSError: if another process has the folder, or it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise OSError(f"Another process writes to {self.folder}; stop it, or give another --home.") from None
        for path in sorted(self.folder.glob(f"*{OPEN}")):
            self.torn_bytes += recovered(path)
        self.number, self.size = max((number(path) for path in self.folder.iterdir()), default=0) + 1, 0
        self._begin(self.number)
        return self

    def _begin(self, file: int) -> None:
        """Makes a file. Runs in the thread too, hence leaves ``number`` and ``size`` alone, which are the loop's."""
        self._path = self.folder / f"{file:08d}{OPEN}"
        self._file = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o644)
        synced(self.folder)
        self._durable, self._born = 0, time.monotonic()

    @property
    def place(self) -> Place:
        """Where the next record will lie."""
        return Place(self.number, self.size)

    @property
    def lag(self) -> int:
        """Records that wait for the disk."""
        return len(self._buffer)

    def append(self, data: bytes) -> "asyncio.Future[None]":
        """Takes a record; what it returns is done when the record is on disk, and fails with UnwrittenError if not."""
        if self._group is None:
            self._group = asyncio.get_running_loop().create_future()
        record = tfrecords.framed(data)
        self._buffer.append(record)
        self.size += len(record)
        if not self._busy:
            self._schedule()
        return self._group

    def settled(self) -> "asyncio.Future[None]":
        """Done when everything that was taken before the call is on disk; fails with UnwrittenError if it is not."""
        last = self._group or self._writing
        if last is None:
            last = asyncio.get_running_loop().create_future()
            last.set_result(None)
        return asyncio.shield(last)  # others wait for it too

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        if len(self._buffer) >= self._expected():
            loop.call_soon(self._flush)
        elif self._timer is None:
            self._timer = loop.call_later(GATHER, self._flush)

    def _flush(self) -> None:
        """Hands the group to the thread, unless one is under way: then its end calls here again."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._busy or self._group is None:
            return
        group, data, count, file = self._group, b"".join(self._buffer), len(self._buffer), self.number
        self._group, self._writing, self._buffer, self._busy = None, group, [], True
        full = self.size >= self.limits.file_bytes or time.monotonic() - self._born >= self.limits.file_seconds
        if full:  # what is appended from now on goes to the next file, which the thread makes
            self.number, self.size = file + 1, 0
        loop = asyncio.get_running_loop()

        def work() -> None:
            error = self._commit(file, data, full)
            with suppress(RuntimeError):  # the loop is gone, and with it everybody who waited
                loop.call_soon_threadsafe(self._ended, group, count, error)

        self._thread.submit(work)

    def _commit(self, file: int, data: bytes, full: bool) -> OSError | None:
        """In the thread: the group to disk, and the next file begun after a full one."""
        try:
            if self._file < 0:
                self._begin(file)
            self._write(self._file, data)
            self._durable += len(data)
            if full:
                self._seal()
                self._begin(file + 1)
        except OSError as error:
            return error
        return None

    def _seal(self) -> None:
        file, self._file = self._file, -1
        os.close(file)
        if self._durable:
            os.rename(self._path, self._path.with_suffix(DONE))
            synced(self.folder)
        else:
            self._path.unlink()
        self._retain()
        self.sealed(int(self._path.stem))

    def _ended(self, group: "asyncio.Future[None]", count: int, error: OSError | None) -> None:
        self._busy, self._writing = False, None
        if error is None:
            self.records, self.groups = self.records + count, self.groups + 1
            if not group.done():
                group.set_result(None)
        else:
            self._failed(group, error)
        if self._group is not None:
            self._schedule()

    def _failed(self, group: "asyncio.Future[None]", error: OSError) -> None:
        """Nobody whose place came after the failure is told that it is kept; the next record goes to a new file.

        After a failed fsync nobody knows what of the file is on disk, so it is not written any more.
        """
        log.error("The prediction log cannot be written: %s", error)
        waiting, self._group, self._buffer = self._group, None, []
        for one in (group, waiting):
            if one is not None and not one.done():
                one.set_exception(UnwrittenError(f"The prediction log cannot be written: {error.strerror or error}."))
        self.number, self.size = self.number + 1, 0
        try:
            if self._file >= 0:
                os.ftruncate(self._file, self._durable)
                self._seal()
        except OSError as again:
            log.error("%s cannot be closed: %s", self._path, again)
            self._file = -1

    def _retain(self) -> None:
        """Removes the oldest closed files beyond the limits."""
        files = self.files()
        sizes = [path.stat().st_size for path in files]
        total, now = sum(sizes), time.time()
        for path, size in zip(files, sizes, strict=True):
            old = self.limits.keep_seconds and now - path.stat().st_mtime > self.limits.keep_seconds
            many = self.limits.keep_bytes and total > self.limits.keep_bytes
            if not (old or many) or not self.removable(number(path)):
                break
            path.unlink()
            total -= size

    def files(self) -> list[Path]:
        """The closed files, the oldest first."""
        return sorted(self.folder.glob(f"*{DONE}"))

    async def close(self) -> None:
        """Writes what waits, closes the file and gives the folder back."""
        while self._busy or self._group is not None:
            self._flush()
            await asyncio.sleep(0.001)
        self._thread.shutdown()
        if self._file >= 0:
            self._seal()
        os.close(self._lock)


def written(file: int, data: bytes) -> None:
    """Writes all of ``data`` and waits until it is on disk."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    os.fdatasync(file)
