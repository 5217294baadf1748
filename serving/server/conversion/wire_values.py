"""Protobuf's wire format: counts the values of a message before it is parsed, and encodes a field.

An empty string or message needs only two bytes, and far more once it is parsed.
"""

from functools import cache
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
FIXED_SIZES = {FIXED64: 8, FIXED32: 4}
INTEGERS = object()  # marks a list of integers
INTEGER_TYPES = {
    getattr(FieldDescriptor, f"TYPE_{name}")
    for name in ("INT32", "INT64", "UINT32", "UINT64", "SINT32", "SINT64", "BOOL", "ENUM")
}
MAX_DEPTH = 100  # the depth that the parser accepts


def count_values(message: bytes, descriptor: Any, limit: int) -> int:
    """Return the number of fields of a message and its messages, each integer of a packed list counted.

    Floating-point lists and bytes are not counted: parsed, they need no more memory. The count ends once it exceeds
    ``limit``, and where the message is malformed, which the parser reports.
    """
    count, position, end, fields = 0, 0, len(message), _find_counted_fields(descriptor)
    outer: list[tuple[int, int, dict[int, Any]]] = []
    while count <= limit:
        if position >= end:
            if not outer:
                break
            position, end, fields = outer.pop()
            continue
        count += 1
        tag, position = _read_varint(message, position)
        wire = tag & 7
        if wire == VARINT:
            _, position = _read_varint(message, position)
        elif wire in FIXED_SIZES:
            position += FIXED_SIZES[wire]
        elif wire == BYTES:
            length, position = _read_varint(message, position)
            inner = fields.get(tag >> 3)
            if inner is not None:
                after = position + length
                if inner is INTEGERS:
                    count += _count_varints(message, position, min(after, end))
                elif len(outer) < MAX_DEPTH:
                    outer.append((after, end, fields))
                    end, fields = min(after, end), _find_counted_fields(inner)
                    continue
            position += length
        else:
            break
    return count


@cache
def _find_counted_fields(descriptor: Any) -> dict[int, Any]:
    """Return the fields with messages or integers by number: the message's descriptor, or ``INTEGERS``."""
    return {
        field.number: field.message_type or INTEGERS
        for field in descriptor.fields
        if field.message_type or field.type in INTEGER_TYPES
    }


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    """Return a number and the position after it; the end of the message if it is cut off."""
    value = shift = 0
    for at in range(position, min(position + 10, len(message))):
        byte = message[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
        shift += 7
    return 0, len(message)


def _count_varints(message: bytes, start: int, end: int) -> int:
    """Return the number of integers in a packed list: that of the bytes with which one ends."""
    return int(np.count_nonzero(np.frombuffer(message, np.uint8, max(0, end - start), min(start, len(message))) < 0x80))


def encode_field(number: int, content: bytes) -> bytes:
    """Encode a field that holds bytes, a message or a packed list."""
    return encode_varint(number << 3 | BYTES) + encode_varint(len(content)) + content


def encode_varint(value: int) -> bytes:
    """Encode an integer that is not negative."""
    encoded = b""
    while value > 0x7F:
        encoded, value = encoded + bytes([value & 0x7F | 0x80]), value >> 7
    return encoded + bytes([value])
