"""The files of a log: naming, recovery after a crash, and reading.

The file being written is named ``*.open``. When it is large or old enough it is closed and renamed to ``*.tfrecord``,
so that ``*.tfrecord`` files are always complete. A half-written record after a crash lies after the last fsync and was
therefore never acknowledged; the next start truncates it from the file and saves it as ``*.torn``.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serving.atomic_file import sync_to_disk
from serving.gateway.log import tfrecords

OPEN, DONE, TORN = ".open", ".tfrecord", ".torn"
log = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class LogPosition:
    """Position of a record in a log: number of the file and byte offset in it."""

    file: int = 0
    offset: int = 0


def next_position(place: LogPosition, data: bytes) -> LogPosition:
    """Return the position after a record with the given data, in the same file."""
    return LogPosition(place.file, place.offset + len(data) + tfrecords.FRAME_BYTES)


def file_number(path: Path) -> int:
    """Return the number of a log file from its name; 0 for other files."""
    return int(path.stem) if path.stem.isdigit() else 0


def first_file(folder: Path) -> int:
    """Return the number of the log's oldest file; 0 if there is none."""
    return min((file_number(path) for suffix in (OPEN, DONE) for path in folder.glob(f"*{suffix}")), default=0)


def recover_file(path: Path) -> int:
    """Close a file that a crash left open: keep complete records and save the rest as ``*.torn``.

    Returns:
        The number of bytes truncated.
    """
    buffer, end = path.read_bytes(), 0
    for offset, data in tfrecords.iterate_records(buffer):
        end = offset + len(data) + tfrecords.FRAME_BYTES
    if end < len(buffer):
        path.with_suffix(TORN).write_bytes(buffer[end:])
        log.warning(
            "%s ended with an incomplete record of %d bytes, which was never acknowledged.", path, len(buffer) - end
        )
        os.truncate(path, end)
    if end:
        sync_to_disk(path)
        os.rename(path, path.with_suffix(DONE))
    else:
        path.unlink()
    sync_to_disk(path.parent)
    return len(buffer) - end


def read_log(folder: Path, since: LogPosition = LogPosition()) -> Iterator[tuple[LogPosition, bytes]]:  # noqa: B008 (frozen)
    """Yield position and data of every record from a position on, in order, including those of the open file.

    Raises:
        tfrecords.CorruptRecordError: if a closed file is damaged.
    """
    files = {file_number(path): path for suffix in (OPEN, DONE) for path in folder.glob(f"*{suffix}")}
    for file in sorted(file for file in files if file >= since.file):
        start = since.offset if file == since.file else 0
        path = files[file]
        if path.suffix == OPEN and not path.exists():
            path = path.with_suffix(DONE)
        records = _read_open_file(path, start) if path.suffix == OPEN else tfrecords.read(path, start)
        for offset, data in records:
            yield LogPosition(file, offset), data


def _read_open_file(path: Path, start: int) -> Iterator[tuple[int, bytes]]:
    """Yield offset and data of the complete records of the file being written, from a byte offset on."""
    with path.open("rb") as stream:
        stream.seek(start)
        for offset, data in tfrecords.iterate_records(stream.read()):
            yield start + offset, data


def find_record(folder: Path, place: LogPosition) -> bytes | None:
    """Return the record at a position; None if no record starts there or its file has been removed."""
    for suffix in (OPEN, DONE):
        try:
            return tfrecords.read_at(folder / f"{place.file:08d}{suffix}", place.offset)
        except FileNotFoundError:
            continue
    return None
