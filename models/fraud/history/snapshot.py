"""Consistent snapshot of a state, read in parts while the state changes."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

# Entries of a part: this many are built and written as JSON in about a millisecond.
PART = 2_000


class Record(Protocol):
    """One customer's or merchant's record."""

    def state(self) -> list[list[Any]]:
        """Return the record as plain lists."""


class Snapshot:
    """Copy-on-write snapshot of records. Call :meth:`before` ahead of each change of a record.

    The cost is one copy of the names at the start, and one copy of each record that changes before its part is read.

    Args:
        records: Records by kind and name.
    """

    def __init__(self, records: Mapping[str, Mapping[str, Record]]) -> None:
        self._left = {kind: dict(by_name) for kind, by_name in records.items()}
        self._copied: dict[str, dict[str, list[list[Any]]]] = {kind: {} for kind in records}

    def before(self, kind: str, name: str) -> None:
        """Copy a record before it changes, unless it has been read already."""
        record = self._left[kind].pop(name, None)
        if record is not None:
            self._copied[kind][name] = [list(part) for part in record.state()]

    def parts(self) -> Iterator[dict[str, Any]]:
        """Yield all records, each once, in parts of about ``PART`` entries; a part is valid until the next change."""
        for kind, left in self._left.items():
            while left or self._copied[kind]:
                yield {name: {} for name in self._left} | {kind: self._part(left, self._copied[kind])}

    def _part(self, left: dict[str, Record], copied: dict[str, list[list[Any]]]) -> dict[str, list[list[Any]]]:
        part: dict[str, list[list[Any]]] = {}
        size = 0
        while size < PART and (left or copied):
            name, state = copied.popitem() if copied else _take(left)
            part[name], size = state, size + 1 + sum(map(len, state))
        return part


def _take(left: dict[str, Record]) -> tuple[str, list[list[Any]]]:
    name, record = left.popitem()
    return name, record.state()
