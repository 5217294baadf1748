"""Finds the first prediction of a request in the prediction log, so that a repeated request gets its first answer."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from serving.gateway.history.first_answer import FirstAnswer, hash_key, read_first_answer
from serving.gateway.log.log_files import LogPosition, find_record

OFFSET_BITS = 40  # a log file is smaller than a terabyte


class RequestIndex:
    """Position of the first prediction by the hash of the request's id. An entry takes about 150 bytes of memory.

    Args:
        folder: The folder of the prediction log.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[int, int] = {}

    def add(self, request_id: str, place: LogPosition) -> None:
        """Store the position of a request's prediction. Entries stay in the order of the log."""
        number = hash_key(request_id)
        self._places.pop(number, None)
        self._places[number] = place.file << OFFSET_BITS | place.offset

    def find(self, request_id: str) -> FirstAnswer | None:
        """Return the request's first answer; None if there is none, or if its record is not in the log."""
        place = self._places.get(hash_key(request_id))
        answer = None if place is None else self.read(LogPosition(*_to_pair(place)))
        return answer if answer and answer.request_id == request_id else None

    def read(self, place: LogPosition) -> FirstAnswer | None:
        """Return the answer at a position of the log; None if it is not there any more."""
        record = find_record(self.folder, place)
        return read_first_answer(record) if record else None

    def forget_files_before(self, file: int) -> None:
        """Remove the entries of log files that have been removed."""
        old = takewhile(lambda item: item[1] >> OFFSET_BITS < file, self._places.items())
        for number in [number for number, _ in old]:
            del self._places[number]

    def entries(self) -> Iterator[tuple[int, int, int]]:
        """Yield hash, file and offset of the entries at the time of the call."""
        places = self._places.copy()
        return ((number, *_to_pair(place)) for number, place in places.items())

    def load(self, entries: Iterable[Sequence[int]]) -> None:
        """Add entries as :meth:`entries` yields them."""
        self._places.update((number, file << OFFSET_BITS | offset) for number, file, offset in entries)


def _to_pair(place: int) -> tuple[int, int]:
    return place >> OFFSET_BITS, place & (1 << OFFSET_BITS) - 1
