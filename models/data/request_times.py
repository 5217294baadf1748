"""Times in requests: ISO 8601 text, or seconds since 1970 as a number; without a zone they are UTC.

Unlike a column of a file, a single number does not show its unit, so only seconds are accepted.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

# The years 1990 to 2100 as seconds since 1970. Numbers of one unit do not overlap with those of another.
EARLIEST, LATEST = 631_152_000, 4_102_444_800
# How many of each unit a second has.
FINER_UNITS = {"milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
ISO = r"^\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d*)?)?(Z|[+-]\d\d(:?\d\d)?)?)?$"
REMEDY = "give ISO 8601 text such as 2026-12-31T23:59:59Z, or seconds since 1970 as a number"
_iso = re.compile(ISO, re.ASCII)
CLOCK_SKEW = 60 * 10**6  # microseconds by which a client's clock may be ahead
MAX_REPLAYED_WAIT = 60 * 86_400 * 10**6  # microseconds from a row that is ahead of the clock to its label


def parse_time(value: Any) -> int:
    """Return a request's time in microseconds since 1970, rounded to microseconds for a number, rounded down for a text.

    Raises:
        ValueError: if it is no time, or a number that is not in seconds of the years 1990 to 2100.
    """
    if isinstance(value, str):
        return _parse_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"this is not a time; {REMEDY}")
    if not EARLIEST <= value < LATEST:
        raise ValueError(_describe_number(value))
    return value * 10**6 if isinstance(value, int) else round(value * 1e6)


def _parse_text(value: str) -> int:
    text = value if _iso.fullmatch(value) else _normalise_iso(value)
    try:
        if not _iso.fullmatch(text):
            raise ValueError
        time = datetime.fromisoformat(text)
        aware = time if time.tzinfo else time.replace(tzinfo=UTC)
        return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise ValueError(f"{value[:64]!r} is not a time; {REMEDY}") from None


def _normalise_iso(value: str) -> str:
    text = re.sub(r"\s*(Z|z|UTC)$", "Z", value.strip())
    return re.sub(r"\s+([+-])", r"\1", text)


def _describe_number(value: int | float) -> str:
    for unit, count in FINER_UNITS.items():
        if EARLIEST * count <= value < LATEST * count:
            return f"{value} looks like {unit} since 1970; divide it by {count} to give seconds"
    return f"{value} is not a time from 1990 to 2100 in seconds since 1970; {REMEDY}"


def check_label_time(value: Any, now: int, since: int = 0) -> int:
    """Return when a label became known, in microseconds since 1970.

    Args:
        value: The time in the request; None for now.
        now: The clock.
        since: Time of the labelled row. If it is ahead of the clock, as in a replay, so may be its label.

    Raises:
        ValueError: if it is no time, before 1970 or the row, or in the future.
    """
    if value is None:
        return max(now, since)
    try:
        time = parse_time(value)
    except ValueError as error:
        raise ValueError(f"label_time: {error}") from None
    if time < 0:
        raise ValueError("label_time: the time is before 1970; give the time at which the label became known")
    if time < since:
        raise ValueError(
            f"label_time: {format_time(time)} is before its row's time, {format_time(since)}; "
            "give the time at which the label became known"
        )
    if time > (since + MAX_REPLAYED_WAIT if since > now else now + CLOCK_SKEW):
        raise ValueError(f"label_time: {format_time(time)} is in the future; send a label once it is known")
    return time


def format_time(microseconds: int) -> str:
    """Return a time since 1970 as ISO 8601 text in UTC, rounded down to seconds."""
    return datetime.fromtimestamp(microseconds // 10**6, UTC).isoformat().replace("+00:00", "Z")


SCHEMA = {
    "anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "number", "minimum": EARLIEST, "maximum": LATEST - 1},
    ],
    "description": "ISO 8601 text, UTC if it has no time zone, or seconds since 1970 as a number.",
}
# A field of a request that holds a time; its value is in microseconds since 1970.
RequestTime = Annotated[int, BeforeValidator(parse_time), WithJsonSchema(SCHEMA, mode="validation")]
