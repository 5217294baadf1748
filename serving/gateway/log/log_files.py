"""The files of a log: their names, what a crash leaves of them, and how they are read.

The file being written is called ``*.open``. It is closed and renamed to ``*.tfrecord`` when it is large or old enough, so
whoever reads ``*.tfrecord`` reads whole files only. What a crash has left half written is after the last fsync, thus was
never acknowledged; it is cut off at the next start and kept beside as ``*.torn``.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serving.gateway.log import tfrecords

OPEN, DONE, TORN = ".open", ".tfrecord", ".torn"
log = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class Place:
    """Where a record lies: number of the file and byte in it."""

    file: int = 0
    offset: int = 0


def after(place: Place, data: bytes) -> Place:
    """Where the record that follows one with that data lies, in the same file."""
    return Place(place.file, place.offset + len(data) + tfrecords.AROUND)


def number(path: Path) -> int:
    """The number of a log file by its name."""
    return int(path.stem) if path.stem.isdigit() else 0


def recovered(path: Path) -> int:
    """Closes a file that a crash has left open: whole records stay; returns the bytes cut off and kept beside."""
    buffer, end = path.read_bytes(), 0
    for offset, data in tfrecords.whole(buffer):
        end = offset + len(data) + tfrecords.AROUND
    if end < len(buffer):
        path.with_suffix(TORN).write_bytes(buffer[end:])
        log.warning("%s ended in %d bytes of no whole record, never acknowledged.", path, len(buffer) - end)
        os.truncate(path, end)
    if end:
        synced(path)
        os.rename(path, path.with_suffix(DONE))
    else:
        path.unlink()
    synced(path.parent)
    return len(buffer) - end


def read(folder: Path, since: Place = Place()) -> Iterator[tuple[Place, bytes]]:  # noqa: B008 (frozen)
    """Place and data of every record from a place on, in order; also of the file being written, up to its last whole one.

    Raises:
        records.CorruptError: if a closed file is damaged.
    """
    files = {number(path): path for suffix in (OPEN, DONE) for path in folder.glob(f"*{suffix}")}
    for file in sorted(one for one in files if one >= since.file):
        start = since.offset if file == since.file else 0
        path = files[file]
        if path.suffix == OPEN and not path.exists():
            path = path.with_suffix(DONE)
        found = _growing(path, start) if path.suffix == OPEN else tfrecords.read(path, start)
        for offset, data in found:
            yield Place(file, offset), data


def _growing(path: Path, start: int) -> Iterator[tuple[int, bytes]]:
    """Whole records of a file that is being written, from a byte on; what lies before is not read again."""
    with path.open("rb") as stream:
        stream.seek(start)
        for offset, data in tfrecords.whole(stream.read()):
            yield start + offset, data


def find(folder: Path, place: Place) -> bytes | None:
    """The record at a place; None where none begins or its file is not kept any more."""
    for suffix in (OPEN, DONE):
        try:
            return tfrecords.at(folder / f"{place.file:08d}{suffix}", place.offset)
        except FileNotFoundError:
            continue
    return None


def synced(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
