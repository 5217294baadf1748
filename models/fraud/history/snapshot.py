"""A state as it was at one moment, taken part by part while it goes on changing."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

# Entries of a part: so many are made and written as JSON in about a millisecond.
PART = 2_000


class Record(Protocol):
    """One customer's or merchant's record."""

    def state(self) -> list[list[Any]]:
        """It as plain lists."""


class Snapshot:
    """Records by kind and name. Who changes one calls :meth:`before`, which copies it unless its part was taken already.

    So the cost is a copy of the names at the beginning, and one of each record that changes meanwhile.

    Args:
        records: By kind and name.
    """

    def __init__(self, records: Mapping[str, Mapping[str, Record]]) -> None:
        self._left = {kind: dict(found) for kind, found in records.items()}
        self._copied: dict[str, dict[str, list[list[Any]]]] = {kind: {} for kind in records}

    def before(self, kind: str, name: str) -> None:
        """Keeps a record as it is, if it has not been taken."""
        record = self._left[kind].pop(name, None)
        if record is not None:
            self._copied[kind][name] = [list(part) for part in record.state()]

    def parts(self) -> Iterator[dict[str, Any]]:
        """All records, each once, in parts of about ``PART`` entries; a part is good until the next change."""
        for kind, left in self._left.items():
            while left or self._copied[kind]:
                yield {one: {} for one in self._left} | {kind: self._part(left, self._copied[kind])}

    def _part(self, left: dict[str, Record], copied: dict[str, list[list[Any]]]) -> dict[str, list[list[Any]]]:
        part: dict[str, list[list[Any]]] = {}
        size = 0
        while size < PART and (left or copied):
            name, state = copied.popitem() if copied else _taken(left)
            part[name], size = state, size + 1 + sum(map(len, state))
        return part


def _taken(left: dict[str, Record]) -> tuple[str, list[list[Any]]]:
    name, record = left.popitem()
    return name, record.state()
