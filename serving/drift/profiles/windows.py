"""Division of the prediction log into windows: days of event time, or a fixed number of rows.

The division is deterministic: the same log always gives the same windows.
"""

from dataclasses import dataclass
from datetime import date, timedelta

from serving.gateway.log.log_files import LogPosition

DAY = 86_400
EPOCH = date(1970, 1, 1)


def format_window(number: int, daily: bool) -> str:
    """Return a window's date if windows are days since 1970, otherwise ``window`` and its number."""
    return (EPOCH + timedelta(number)).isoformat() if daily and number >= 0 else f"window {number}"


@dataclass(frozen=True)
class Windowing:
    """How the log is divided into windows.

    Attributes:
        time: Raw feature with a row's event time in seconds since 1970; a window is a day. If empty, a window has
            ``rows`` rows.
        rows: Number of rows of a window, if rows have no time.
        behind: Number of rows of later days that close a day. Clients overlap at midnight, and one wrong clock must not
            close the day for all others.
        least: Windows with fewer rows are not judged.
    """

    time: str = ""
    rows: int = 500
    behind: int = 16
    least: int = 100


class WindowAssigner:
    """Assigns each row, in the order of the log, to its window.

    Attributes:
        closed: The last closed window; a row of it or of an earlier one is late and dropped.
        late: Number of late rows.
    """

    def __init__(self, cut: Windowing, closed: int = -1) -> None:
        self.cut, self.closed, self.late = cut, closed, 0
        self._first: dict[int, LogPosition] = {}
        self._rows: dict[int, int] = {}

    def take(self, place: LogPosition, seconds: int | None) -> int | None:
        """Window of the row at a position of the log; None if the row is late."""
        number = seconds // DAY if self.cut.time and seconds is not None else self.closed + 1
        if number <= self.closed:
            self.late += 1
            return None
        self._first.setdefault(number, place)
        self._rows[number] = self._rows.get(number, 0) + 1
        return number

    def over(self) -> list[int]:
        """Windows that were closed since the last call, oldest first."""
        closed = []
        for number in sorted(self._rows):
            if not self._is_complete(number):
                break
            closed.append(number)
            self.closed = number
            del self._rows[number], self._first[number]
        return closed

    def _is_complete(self, number: int) -> bool:
        if not self.cut.time:
            return self._rows[number] >= self.cut.rows
        return sum(rows for other, rows in self._rows.items() if other > number) >= self.cut.behind

    def since(self, end: LogPosition) -> LogPosition:
        """Position of the log from which to read again to get every row of the open windows; ``end`` if none is open."""
        return min(self._first.values(), default=end)
