"""The log cut into windows: days of the rows' own time, or so many rows; the same log is always cut the same way."""

from dataclasses import dataclass

from serving.gateway.log.log_files import Place

DAY = 86_400


@dataclass(frozen=True)
class Cut:
    """How.

    Attributes:
        time: The raw feature with a row's time in seconds since 1970; a window is a day. Empty for windows of ``rows``.
        rows: Of a window, where rows have no time.
        behind: Rows of later days that have to be there before a day is over: clients overlap at midnight, and one wrong
            clock must not end the day for all others.
        least: Windows with fewer rows are not judged.
    """

    time: str = ""
    rows: int = 500
    behind: int = 16
    least: int = 100


class Cutter:
    """Says of row after row, in the order of the log, to which window it belongs.

    Attributes:
        closed: The last window that is over; rows of it or of an older one come too late.
        late: How many have.
    """

    def __init__(self, cut: Cut, closed: int = -1) -> None:
        self.cut, self.closed, self.late = cut, closed, 0
        self._first: dict[int, Place] = {}
        self._rows: dict[int, int] = {}

    def take(self, place: Place, seconds: int | None) -> int | None:
        """The window of the row at a place; None if that is over."""
        number = seconds // DAY if self.cut.time and seconds is not None else self.closed + 1
        if number <= self.closed:
            self.late += 1
            return None
        self._first.setdefault(number, place)
        self._rows[number] = self._rows.get(number, 0) + 1
        return number

    def over(self) -> list[int]:
        """Windows that are over since the last call, the oldest first."""
        found = []
        for number in sorted(self._rows):
            if not self._ends(number):
                break
            found.append(number)
            self.closed = number
            del self._rows[number], self._first[number]
        return found

    def _ends(self, number: int) -> bool:
        if not self.cut.time:
            return self._rows[number] >= self.cut.rows
        return sum(rows for other, rows in self._rows.items() if other > number) >= self.cut.behind

    def since(self, end: Place) -> Place:
        """Where reading has to begin again to see every row of the open windows; ``end`` where there is none."""
        return min(self._first.values(), default=end)
