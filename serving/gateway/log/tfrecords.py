"""Reads and writes TFRecord files without TensorFlow.

A record is the length, a checksum of the length, the data and a checksum of the data.

Checksums are CRC-32C, masked as the format requires, because a CRC of data that itself contains CRCs is weak.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

HEAD = struct.Struct("<QI")
TAIL = struct.Struct("<I")
FRAME_BYTES = HEAD.size + TAIL.size
MAX_LENGTH = 1 << 30  # a larger length means that the bytes are not a record


class CorruptRecordError(ValueError):
    """A file contains an invalid record at byte ``offset``."""

    def __init__(self, path: Path, offset: int) -> None:
        super().__init__(
            f"{path} is damaged at byte {offset}: its checksum does not match; restore the file or remove it."
        )
        self.offset = offset


def _compute_masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame_record(data: bytes) -> bytes:
    """Return the record of ``data``; it is ``FRAME_BYTES`` bytes longer."""
    length = len(data).to_bytes(8, "little")
    return b"%b%b%b%b" % (length, TAIL.pack(_compute_masked_crc(length)), data, TAIL.pack(_compute_masked_crc(data)))


def unframe_record(buffer: bytes, offset: int) -> bytes | None:
    """Return the data of the record at ``offset``; None if there is no complete record with matching checksums."""
    if offset + FRAME_BYTES > len(buffer):
        return None
    length, check = HEAD.unpack_from(buffer, offset)
    start = offset + HEAD.size
    if (
        check != _compute_masked_crc(buffer[offset : offset + 8])
        or length > MAX_LENGTH
        or start + length + TAIL.size > len(buffer)
    ):
        return None
    data = bytes(buffer[start : start + length])
    return data if TAIL.unpack_from(buffer, start + length)[0] == _compute_masked_crc(data) else None


def iterate_records(buffer: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield offset and data of every record from ``offset`` to the end or the first damaged record."""
    while (data := unframe_record(buffer, offset)) is not None:
        yield offset, data
        offset += len(data) + FRAME_BYTES


def read(path: Path, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield offset and data of every record of a closed file, from ``offset`` on.

    Raises:
        CorruptRecordError: if the last valid record is followed by other bytes.
    """
    buffer, end = path.read_bytes(), offset
    for start, data in iterate_records(buffer, offset):
        end = start + len(data) + FRAME_BYTES
        yield start, data
    if end != len(buffer):
        raise CorruptRecordError(path, end)


def read_at(path: Path, offset: int) -> bytes | None:
    """Return the data of the record at ``offset``; None if no record starts there."""
    with path.open("rb") as stream:
        stream.seek(offset)
        head = stream.read(HEAD.size)
        if len(head) < HEAD.size or HEAD.unpack(head)[0] > min(MAX_LENGTH, os.fstat(stream.fileno()).st_size):
            return None
        return unframe_record(head + stream.read(HEAD.unpack(head)[0] + TAIL.size), 0)
