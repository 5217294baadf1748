"""Encodes and decodes ``tf.Example`` without TensorFlow; the log keeps exactly the bytes that the model reads.

In protocol buffer encoding an Example is a map, and a map is the concatenation of its entries. Appending entries to a
request's features therefore gives another valid Example.
"""

import struct
from collections.abc import Container, Mapping, Sequence
from functools import lru_cache
from typing import Any

Value = bytes | str | int | float | Sequence[bytes | str] | Sequence[int] | Sequence[float] | None


def _encode_varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


MAX_CACHED = 128  # texts shorter than this many bytes are cached
SMALL_VARINTS = [_encode_varint(number) for number in range(1 << 14)]


def _encode_length(number: int) -> bytes:
    return SMALL_VARINTS[number] if number < len(SMALL_VARINTS) else _encode_varint(number)


def _encode_block(tag: bytes, data: bytes) -> bytes:
    """Return a length-delimited field."""
    return tag + _encode_length(len(data)) + data


@lru_cache(1 << 14)
def _encode_item(text: bytes | str) -> bytes:
    """Encode a text of a list; cached, since values such as merchant ids recur."""
    return _encode_block(b"\x0a", _to_bytes(text))


def _to_bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text


def encode_entry(name: str, value: Value) -> bytes:
    """Encode one feature as an entry of the map; empty for None.

    Args:
        name: The feature's name.
        value: Text, bytes, an integer, a float (rounded to float32), or a list of one of these types.

    Raises:
        OverflowError: for a float beyond float32's range.
    """
    if value is None:
        return b""
    values = value if isinstance(value, (list, tuple)) else (value,)
    first = values[0] if values else b""
    if isinstance(first, float):
        tag, encoded = b"\x12", _encode_block(b"\x0a", struct.pack(f"<{len(values)}f", *values))
    elif isinstance(first, int):
        tag, encoded = b"\x1a", _encode_block(b"\x0a", b"".join(map(_encode_varint, values)))
    else:
        tag, encoded = (
            b"\x0a",
            b"".join(
                [
                    _encode_item(item) if len(item) < MAX_CACHED else _encode_block(b"\x0a", _to_bytes(item))
                    for item in values
                ]
            ),
        )
    return _encode_block(
        b"\x0a", _encode_block(b"\x0a", name.encode()) + _encode_block(b"\x12", _encode_block(tag, encoded))
    )


def encode_example(*entries: bytes) -> bytes:
    """Serialize an Example from encoded entries."""
    return _encode_block(b"\x0a", b"".join(entries))


_HEADS: dict[tuple[str, int], bytes] = {}


def encode_text(name: str, value: bytes) -> bytes:
    """Encode a feature of one text; the bytes before a short text depend only on its length and are cached."""
    size = len(value)
    if size >= MAX_CACHED:
        return encode_entry(name, value)
    head = _HEADS.get((name, size))
    if head is None:
        encoded = encode_entry(name, value)
        head = _HEADS[name, size] = encoded[: len(encoded) - size]
    return head + value


class FloatEncoder:
    """Encoder of a fixed set of float features, which are packed with one call. Most features of a purchase are floats.

    Args:
        sizes: Number of floats by feature.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        # An entry of floats ends with four bytes per float; the bytes before them are constant.
        self._heads = {name: encode_entry(name, [0.0] * size)[: -4 * size] for name, size in sizes.items()}
        self._lists = frozenset(name for name, size in sizes.items() if size > 1)
        self._struct = struct.Struct("<" + "".join(f"{len(self._heads[name])}s{size}f" for name, size in sizes.items()))

    def __call__(self, features: Mapping[str, Any]) -> bytes:
        """Encode the features; each must be present, as one float or as a list of the given size.

        Raises:
            OverflowError: for a float beyond float32's range.
        """
        flat: list[bytes | float] = []
        for name, head in self._heads.items():
            if name in self._lists:
                flat += (head, *features[name])
            else:
                flat += (head, features[name])
        return self._struct.pack(*flat)


class Encoder:
    """Encodes features as entries of an Example.

    Args:
        floats: Number of floats by feature, for the float features that every row has; they are encoded together.
    """

    def __init__(self, floats: Mapping[str, int]) -> None:
        self._float_names, self._encode_floats = frozenset(floats), FloatEncoder(floats)

    def __call__(self, features: Mapping[str, Value]) -> bytes:
        """Encode all features except those that are None."""
        float_names = self._float_names
        parts = [self._encode_floats(features)]
        for name, value in features.items():
            if name not in float_names:
                parts.append(encode_text(name, value.encode()) if type(value) is str else encode_entry(name, value))
        return b"".join(parts)


def decode(data: bytes, names: Container[str] | None = None) -> dict[str, list[Any]]:
    """Parse a serialized Example into lists of bytes, floats or integers by feature name.

    Args:
        data: The serialized Example.
        names: Names of the features to return; None for all.

    Raises:
        ValueError: if ``data`` is not a serialized Example.
    """
    decoded: dict[str, list[Any]] = {}
    try:
        for features in _read_fields(data, 1):
            for pair in _read_fields(features, 1):
                name = b"".join(_read_fields(pair, 1)).decode()
                if names is not None and name not in names:
                    continue
                decoded[name] = [item for value in _read_fields(pair, 2) for item in _decode_values(value)]
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError("The data is not a serialized tf.Example.") from error
    return decoded


def _decode_values(value: bytes) -> list[Any]:
    if texts := _read_fields(value, 1):
        return [item for text in texts for item in _read_fields(text, 1)]
    if floats := _read_fields(value, 2):
        return [item for part in floats for packed in _read_fields(part, 1) for item in _decode_floats(packed)]
    return [
        item for part in _read_fields(value, 3) for packed in _read_fields(part, 1) for item in _decode_integers(packed)
    ]


def _decode_floats(packed: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(packed) // 4}f", packed)


def _decode_integers(packed: bytes) -> list[int]:
    numbers, at = [], 0
    while at < len(packed):
        number, at = _read_varint(packed, at)
        numbers.append(number - (1 << 64) if number >> 63 else number)
    return numbers


def _read_fields(data: bytes, number: int) -> list[bytes]:
    """Return the contents of a field's occurrences, in a message of length-delimited fields only."""
    contents, at = [], 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        length, at = _read_varint(data, at)
        if tag & 7 != 2 or at + length > len(data):
            raise IndexError(at)
        if tag >> 3 == number:
            contents.append(data[at : at + length])
        at += length
    return contents


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number that starts at an offset, and the offset after it."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at


def read_first_text(data: bytes, at: int) -> bytes:
    """Return the first text of the feature that starts at offset ``at``."""
    length = 0
    for _ in range(3):  # feature, list, text
        _, at = _read_varint(data, at)
        length, at = _read_varint(data, at)
    return data[at : at + length]
