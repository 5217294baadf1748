"""Records in a file as TensorFlow writes them (TFRecord), without TensorFlow: length, its checksum, bytes, their checksum.

Checksums are CRC-32C, masked as the format asks, since a checksum of data that holds checksums is weak.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

HEAD = struct.Struct("<QI")
TAIL = struct.Struct("<I")
AROUND = HEAD.size + TAIL.size
MOST = 1 << 30  # a length above this is no length: what is read is no record


class CorruptError(ValueError):
    """A file holds something that is no record; ``offset`` is where."""

    def __init__(self, path: Path, offset: int) -> None:
        super().__init__(
            f"{path} is damaged at byte {offset}: its checksum does not match; restore the file or remove it."
        )
        self.offset = offset


def _masked(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def framed(data: bytes) -> bytes:
    """The record that holds ``data``; ``AROUND`` bytes longer."""
    length = len(data).to_bytes(8, "little")
    return b"%b%b%b%b" % (length, TAIL.pack(_masked(length)), data, TAIL.pack(_masked(data)))


def unframed(buffer: bytes, offset: int) -> bytes | None:
    """The data of the record at ``offset``; None where no whole record with matching checksums lies."""
    if offset + AROUND > len(buffer):
        return None
    length, check = HEAD.unpack_from(buffer, offset)
    start = offset + HEAD.size
    if check != _masked(buffer[offset : offset + 8]) or length > MOST or start + length + TAIL.size > len(buffer):
        return None
    data = bytes(buffer[start : start + length])
    return data if TAIL.unpack_from(buffer, start + length)[0] == _masked(data) else None


def whole(buffer: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Offset and data of every record from ``offset`` up to the end or the first that is damaged."""
    while (data := unframed(buffer, offset)) is not None:
        yield offset, data
        offset += len(data) + AROUND


def read(path: Path, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Offset and data of every record of a finished file.

    Raises:
        CorruptError: where something else follows the last good record.
    """
    buffer, end = path.read_bytes(), offset
    for start, data in whole(buffer, offset):
        end = start + len(data) + AROUND
        yield start, data
    if end != len(buffer):
        raise CorruptError(path, end)


def at(path: Path, offset: int) -> bytes | None:
    """The data of one record; None where none begins at ``offset``."""
    with path.open("rb") as stream:
        stream.seek(offset)
        head = stream.read(HEAD.size)
        if len(head) < HEAD.size or HEAD.unpack(head)[0] > min(MOST, os.fstat(stream.fileno()).st_size):
            return None
        return unframed(head + stream.read(HEAD.unpack(head)[0] + TAIL.size), 0)
