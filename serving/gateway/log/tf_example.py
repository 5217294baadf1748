"""``tf.Example`` written and read without TensorFlow: what the model reads is, byte for byte, what the log keeps.

On the wire an Example is a map, and a map is its entries one after the other: further entries can be put behind those that
a model was asked with, and the whole is again one Example.
"""

import struct
from collections.abc import Container, Mapping, Sequence
from functools import lru_cache
from typing import Any

Value = bytes | str | int | float | Sequence[bytes | str] | Sequence[int] | Sequence[float] | None


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


SHORT = 128  # texts of fewer bytes are worth remembering
SMALL = [_varint(number) for number in range(1 << 14)]


def _length(number: int) -> bytes:
    return SMALL[number] if number < len(SMALL) else _varint(number)


def _block(tag: bytes, data: bytes) -> bytes:
    return tag + _length(len(data)) + data


@lru_cache(1 << 14)
def _item(one: bytes | str) -> bytes:
    """A text in a list of texts; the same merchants come again and again."""
    return _block(b"\x0a", _bytes(one))


def _bytes(one: bytes | str) -> bytes:
    return one.encode() if isinstance(one, str) else one


def entry(name: str, value: Value) -> bytes:
    """One feature as an entry of the map; nothing for None.

    Args:
        value: Text, bytes, a whole number, a float (rounded to float32), or a list of one of these.

    Raises:
        OverflowError: for a float beyond float32's range.
    """
    if value is None:
        return b""
    values = value if isinstance(value, (list, tuple)) else (value,)
    first = values[0] if values else b""
    if isinstance(first, float):
        kind, held = b"\x12", _block(b"\x0a", struct.pack(f"<{len(values)}f", *values))
    elif isinstance(first, int):
        kind, held = b"\x1a", _block(b"\x0a", b"".join(map(_varint, values)))
    else:
        kind, held = (
            b"\x0a",
            b"".join([_item(one) if len(one) < SHORT else _block(b"\x0a", _bytes(one)) for one in values]),
        )
    return _block(b"\x0a", _block(b"\x0a", name.encode()) + _block(b"\x12", _block(kind, held)))


def example(*entries: bytes) -> bytes:
    """The serialized Example of entries."""
    return _block(b"\x0a", b"".join(entries))


_HEADS: dict[tuple[str, int], bytes] = {}


def text(name: str, value: bytes) -> bytes:
    """The entry of one text; what is before a short text depends on its length only, and is made once."""
    size = len(value)
    if size >= SHORT:
        return entry(name, value)
    head = _HEADS.get((name, size))
    if head is None:
        whole = entry(name, value)
        head = _HEADS[name, size] = whole[: len(whole) - size]
    return head + value


class Floats:
    """Entries of a fixed list of floats, all packed by one call: most of a purchase's features are such.

    Args:
        sizes: How many floats each feature has, by name.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        # An entry of floats ends with four bytes each; all before them never changes.
        self._heads = {name: entry(name, [0.0] * size)[: -4 * size] for name, size in sizes.items()}
        self._lists = frozenset(name for name, size in sizes.items() if size > 1)
        self._struct = struct.Struct("<" + "".join(f"{len(self._heads[name])}s{size}f" for name, size in sizes.items()))

    def __call__(self, features: Mapping[str, Any]) -> bytes:
        """The entries of the names; all have to be there, each a float or as many floats as were said.

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
    """Features to entries.

    Args:
        floats: How many floats those features have that are the same in every row, which are encoded together.
    """

    def __init__(self, floats: Mapping[str, int]) -> None:
        self._floats, self._packed = frozenset(floats), Floats(floats)

    def __call__(self, features: Mapping[str, Value]) -> bytes:
        """The entries of all features; those that are None are left out."""
        packed = self._floats
        parts = [self._packed(features)]
        for name, value in features.items():
            if name not in packed:
                parts.append(text(name, value.encode()) if type(value) is str else entry(name, value))
        return b"".join(parts)


def decode(data: bytes, wanted: Container[str] | None = None) -> dict[str, list[Any]]:
    """The features of a serialized Example: bytes, floats or whole numbers by name; only the wanted ones, or all.

    Raises:
        ValueError: if it is none.
    """
    found: dict[str, list[Any]] = {}
    try:
        for features in _fields(data, 1):
            for pair in _fields(features, 1):
                name = b"".join(_fields(pair, 1)).decode()
                if wanted is not None and name not in wanted:
                    continue
                found[name] = [one for value in _fields(pair, 2) for one in _values(value)]
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError("This is no serialized tf.Example.") from error
    return found


def _values(value: bytes) -> list[Any]:
    if texts := _fields(value, 1):
        return [one for text in texts for one in _fields(text, 1)]
    if floats := _fields(value, 2):
        return [one for part in floats for packed in _fields(part, 1) for one in _unpacked(packed)]
    return [one for part in _fields(value, 3) for packed in _fields(part, 1) for one in _numbers(packed)]


def _unpacked(packed: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(packed) // 4}f", packed)


def _numbers(packed: bytes) -> list[int]:
    found, at = [], 0
    while at < len(packed):
        number, at = _read(packed, at)
        found.append(number - (1 << 64) if number >> 63 else number)
    return found


def _fields(data: bytes, number: int) -> list[bytes]:
    """The blocks of that field in a message of blocks only."""
    found, at = [], 0
    while at < len(data):
        tag, at = _read(data, at)
        length, at = _read(data, at)
        if tag & 7 != 2 or at + length > len(data):
            raise IndexError(at)
        if tag >> 3 == number:
            found.append(data[at : at + length])
        at += length
    return found


def _read(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at


def first(data: bytes, at: int) -> bytes:
    """The first text of the feature whose block begins at ``at``."""
    length = 0
    for _ in range(3):  # feature, list, text
        _, at = _read(data, at)
        length, at = _read(data, at)
    return data[at : at + length]
