"""Read the times of a column as microseconds since 1970 in UTC: timestamps, dates, ISO texts, or numbers since 1970.

The unit of numbers follows from their magnitude, since seconds, milliseconds, microseconds and nanoseconds of the years
1990 to 2100 do not overlap. A time without a zone is UTC.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.data.request_times import EARLIEST, ISO, LATEST

MICROSECONDS = pa.timestamp("us")
# Microseconds a unit has; nanoseconds are rounded down.
UNITS = {"seconds": 1e6, "milliseconds": 1e3, "microseconds": 1.0, "nanoseconds": 1e-3}
# Years 1 to 9999, the years that can be written as dates, as microseconds since 1970.
FIRST_TIME, LAST_TIME = -62_135_596_800_000_000, 253_402_300_799_999_999
FORMATS = (
    "times are read as ISO 8601 (2026-12-31 23:59:59, 2026-12-31T23:59:59Z or +02:00), "
    "or as seconds, ms, us or ns since 1970"
)
NUMBER = r"^-?\d+(\.\d*)?([eE]\+?\d+)?$"
ZONED = r":.*(Z|[+-]\d\d(:?\d\d)?)$"
DATE, DATES = r"^\d{4}-\d\d-\d\d$", "dates, at midnight"
DAY_FIRST = r"^\d{1,2}[./-]\d{1,2}[./-]\d{2,4}"


class TimeFormatError(ValueError):
    """A value is not a time, or the unit of a column of numbers is not clear.

    Args:
        reason: What is wrong and what to do.
        row: Number of the row in its column, from 0; None if it concerns the whole column.
    """

    def __init__(self, reason: str, row: int | None = None) -> None:
        super().__init__(reason if row is None else f"row {row + 1}: {reason}")
        self.reason, self.row = reason, row


@dataclass(frozen=True)
class Times:
    """Times of a column.

    Attributes:
        values: ``timestamp("us")`` in UTC; null where the column is null, empty or NaN.
        conversion: How numbers or dates were read, such as "seconds since 1970"; empty if nothing was converted.
    """

    values: pa.ChunkedArray
    conversion: str = ""


def read_times(column: pa.ChunkedArray) -> Times:
    """Read a column of any type that can hold times.

    Raises:
        TimeFormatError: for the first value that is not a time; for numbers of different units or of an unknown unit; or
            for a type that holds no times.

    Example:
        >>> times = read_times(pa.chunked_array([[1767614400000, None]]))
        >>> str(times.values[0].as_py()), times.conversion
        ('2026-01-05 12:00:00', 'milliseconds since 1970')
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_null(kind):
        return Times(column.cast(MICROSECONDS))
    if pa.types.is_timestamp(kind):
        return Times(_cast_rows(column, _to_microseconds))
    if pa.types.is_date(kind):
        return Times(_cast_rows(column, _to_microseconds), DATES)
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        raise TimeFormatError(f"a column of {kind} rounds times to minutes; write them as int64 or float64")
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _read_numbers(column)
    if any(holds(kind) for holds in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)):
        return _read_texts(_cast_rows(column, lambda part: part.cast(pa.string())))
    raise TimeFormatError(f"a column of {kind} holds no times; {FORMATS}")


def _to_microseconds(part: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = part.type
    if pa.types.is_date(kind):
        return part.cast(pa.timestamp("s")).cast(MICROSECONDS)
    # Nanoseconds are rounded down; seconds and milliseconds may not overflow.
    values = part.cast(pa.timestamp("us", kind.tz), safe=kind.unit != "ns").cast(MICROSECONDS)
    bounds = pc.min_max(values.cast(pa.int64())).as_py()
    if bounds["min"] is not None and (bounds["min"] < FIRST_TIME or bounds["max"] > LAST_TIME):
        raise pa.ArrowInvalid("outside the years 1 to 9999")
    return values


def _cast_rows(column: pa.ChunkedArray, cast: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> pa.ChunkedArray:
    """Return ``cast(column)``; if it fails, raise for the first row with which it does."""
    try:
        return cast(column)
    except pa.ArrowInvalid:
        pass
    good, bad = 0, len(column)  # the first `good` rows can be cast, the first `bad` rows cannot
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            cast(column.slice(good, middle - good))
            good = middle
        except pa.ArrowInvalid:
            bad = middle
    value = column.slice(good, 1).cast(pa.string(), safe=False) if _is_text(column) else column.slice(good, 1)
    raise TimeFormatError(f"{_describe(value)}; {FORMATS}", good)


def _is_text(column: pa.ChunkedArray) -> bool:
    return pa.types.is_string(column.type) or pa.types.is_large_string(column.type)


def _describe(value: pa.ChunkedArray) -> str:
    if not _is_text(value):
        number = value.cast(pa.int64(), safe=False)[0].as_py() if pa.types.is_timestamp(value.type) else None
        return "a value is not a time" if number is None else f"{number} {value.type.unit} since 1970 is not a date"
    text = value[0].as_py()
    if pc.match_substring_regex(value, DAY_FIRST)[0].as_py():
        return f"'{text}' leaves open which number is the day; write the year first"
    return f"'{text}' is not a time"


def _read_texts(column: pa.ChunkedArray) -> Times:
    texts = pc.utf8_trim_whitespace(column)
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    numbers = pc.match_substring_regex(texts, NUMBER)
    if _all_match(texts, NUMBER) and texts.null_count < len(texts):
        return _read_numbers(texts.cast(pa.int64() if _all_match(texts, r"^-?\d{1,18}$") else pa.float64()))
    if pc.any(numbers).as_py():
        row = pc.index(numbers, pc.invert(numbers[_first_valid(numbers)])).as_py()
        raise TimeFormatError(
            f"'{texts[row]}' is another format than '{texts[_first_valid(numbers)]}' above; write all times alike", row
        )
    only_dates = _all_match(texts, DATE) and texts.null_count < len(texts)
    return Times(_cast_rows(texts, _parse_iso), DATES if only_dates else "")


def _all_match(texts: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(texts, pattern), min_count=0).as_py())


def _first_valid(column: pa.ChunkedArray) -> int:
    return int(pc.index(pc.is_valid(column), True).as_py())


def _parse_iso(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Parse ISO texts, those without a zone as UTC; digits beyond microseconds are dropped."""
    texts = pc.replace_substring_regex(texts, r"\s*(Z|z|UTC)$", "Z")
    texts = pc.replace_substring_regex(texts, r"\s+([+-])", r"\1")
    texts = pc.replace_substring_regex(texts, r"(\.\d{6})\d+", r"\1")
    if not _all_match(texts, ISO):
        raise pa.ArrowInvalid("not ISO 8601")
    zoned = pc.match_substring_regex(texts, ZONED)
    in_zone = pc.if_else(zoned, texts, None).cast(pa.timestamp("us", "UTC")).cast(MICROSECONDS)
    return pc.coalesce(in_zone, pc.if_else(zoned, None, texts).cast(MICROSECONDS))


def _read_numbers(column: pa.ChunkedArray) -> Times:
    """Convert numbers since 1970; all of the column in the unit of their median."""
    numbers = np.asarray(column.cast(pa.float64(), safe=False).fill_null(np.nan))
    valid = ~np.isnan(numbers)
    if not valid.any():
        return Times(pa.chunked_array([pa.nulls(len(column), MICROSECONDS)]))
    median = float(np.median(numbers[valid]))
    unit = next((unit for unit in UNITS if _is_recent(np.array([median]), unit).any()), "")
    if not unit:
        raise TimeFormatError(f"numbers such as {median:.0f} are not times of 1990 to 2100; {FORMATS}")
    for other in UNITS.keys() - {unit}:
        if (rows := np.flatnonzero(_is_recent(numbers, other))).size:
            raise TimeFormatError(
                f"{numbers[rows[0]]:.0f} looks like {other} since 1970, most values like {unit}; write all in one unit",
                int(rows[0]),
            )
    microseconds = numbers * UNITS[unit]
    impossible = np.flatnonzero(valid & ~((microseconds >= FIRST_TIME) & (microseconds <= LAST_TIME)))
    if impossible.size:
        row = int(impossible[0])
        raise TimeFormatError(f"{numbers[row]:g} {unit} since 1970 is not a date; correct or drop the row", row)
    return Times(_scale(column, numbers, valid, unit), f"{unit} since 1970")


def _is_recent(numbers: np.ndarray, unit: str) -> np.ndarray:
    seconds = numbers * UNITS[unit] / 1e6
    return (seconds >= EARLIEST) & (seconds < LATEST)


def _scale(column: pa.ChunkedArray, numbers: np.ndarray, valid: np.ndarray, unit: str) -> pa.ChunkedArray:
    """Return the numbers as microseconds; whole numbers exactly."""
    if pa.types.is_integer(column.type):
        whole = np.asarray(column.fill_null(0)).astype(np.int64)
        exact = whole // 1000 if unit == "nanoseconds" else whole * round(UNITS[unit])
    else:
        exact = np.rint(np.where(valid, numbers, 0) * UNITS[unit]).astype(np.int64)
    return pa.chunked_array([pa.array(exact, mask=~valid).cast(MICROSECONDS)])
