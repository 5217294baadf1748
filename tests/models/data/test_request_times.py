"""Times of requests: what is accepted, and that a text means the same in a request and in a file."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data.request_times import EARLIEST, LATEST, check_label_time, parse_time
from models.fraud.event_times import TimeFormatError, read_times

NOON = 1_767_614_400_000_000  # 2026-01-05 12:00:00 UTC


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-05T12:00:00Z", NOON),
        ("2026-01-05 12:00", NOON),
        (" 2026-01-05T14:00:00+02:00 ", NOON),
        ("2026-01-05 14:00:00 +0200", NOON),
        ("2026-01-05 12:00:00 UTC", NOON),
        ("2026-01-05T12:00:00.1234567Z", NOON + 123_456),
        ("2026-01-05", NOON - 12 * 3600 * 10**6),
        (1_767_614_400, NOON),
        (1_767_614_400.25, NOON + 250_000),
        (EARLIEST, EARLIEST * 10**6),
        (LATEST - 1, (LATEST - 1) * 10**6),
    ],
)
def test_time_is_read_in_microseconds(value, expected):
    assert parse_time(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1_767_614_400_000, "looks like milliseconds since 1970; divide it by 1000 "),
        (NOON, "looks like microseconds since 1970; divide it by 1000000 "),
        (NOON * 1000, "looks like nanoseconds since 1970"),
        (1_767_614_400_000.5, "looks like milliseconds"),
        (20_458, "not a time from 1990 to 2100"),
        (EARLIEST - 1, "not a time from 1990 to 2100"),
        (LATEST, "not a time from 1990 to 2100"),
        (-1, "not a time from 1990 to 2100"),
        (float("nan"), "not a time"),
        (float("inf"), "not a time"),
        (10**400, "not a time"),
        ("12\n", "not a time"),
        (True, "not a time"),
        (None, "not a time"),
        ([], "not a time"),
        ("1767614400", "'1767614400' is not a time; give ISO 8601 text"),
        ("05.01.2026", "not a time"),
        ("2026-13-01", "not a time"),
        ("2026-01-05T25:00:00Z", "not a time"),
        ("2026-W02-1", "not a time"),
        ("tomorrow", "not a time"),
        ("", "not a time"),
    ],
)
def test_other_value_is_refused_with_the_remedy(value, message):
    with pytest.raises(ValueError, match=message):
        parse_time(value)


@given(
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),
    st.sampled_from(["", "Z", " UTC", "+02", "-0530", "+05:45"]),
    st.sampled_from([" ", "T"]),
    st.sampled_from(["%Y-%m-%d{}%H:%M", "%Y-%m-%d{}%H:%M:%S", "%Y-%m-%d{}%H:%M:%S.%f", "%Y-%m-%d{}%H:%M:%S.%f789"]),
)
def test_text_means_the_same_in_a_request_and_in_a_file(time, zone, separator, form):
    text = time.strftime(form.format(separator)) + zone
    text = f"{time.year:04d}" + text[text.index("-") :]
    assert parse_time(text) == read_times(pa.chunked_array([[text]])).values.cast(pa.int64())[0].as_py()


@given(st.text(st.sampled_from("0123456789-:T Z.+"), max_size=26))
def test_text_that_a_file_refuses_is_refused(text):
    try:
        times = read_times(pa.chunked_array([[text]]))
    except TimeFormatError:
        with pytest.raises(ValueError, match="not a time"):
            parse_time(text)
        return
    if not times.conversion.endswith("since 1970") and times.values.null_count == 0:
        assert parse_time(text) == times.values.cast(pa.int64())[0].as_py()


def test_current_time_is_in_range():
    assert EARLIEST < datetime.now(UTC).timestamp() < LATEST


@pytest.mark.parametrize(
    ("label_time", "since", "expected"),
    [
        (None, 0, NOON),
        (None, NOON + 5, NOON + 5),  # the row itself is ahead of the clock
        ("2026-01-05T11:59:00Z", NOON - 60_000_000, NOON - 60_000_000),
        ("2026-01-05T12:01:00Z", 0, NOON + 60_000_000),
        ("2026-01-13T12:00:00Z", NOON + 1, NOON + 8 * 86_400_000_000),
    ],
)
def test_label_time_of_a_row_is_accepted(label_time, since, expected):
    assert check_label_time(label_time, NOON, since) == expected


@pytest.mark.parametrize(
    ("label_time", "since", "message"),
    [
        ("2026-01-05T11:58:59Z", NOON - 60_000_000, "before its row's time, 2026-01-05T11:59:00Z"),
        ("2026-01-05T12:01:01Z", 0, "in the future"),
        ("2026-01-05T12:01:01Z", NOON, "in the future"),
        ("2026-05-13T12:00:00Z", NOON + 1, "in the future"),
        ("1960-01-01T00:00:00Z", 0, "before 1970"),
        (1_767_614_400_000, 0, "milliseconds"),
    ],
)
def test_label_time_that_cannot_be_true_is_refused(label_time, since, message):
    with pytest.raises(ValueError, match=f"^label_time: .*{message}"):
        check_label_time(label_time, NOON, since)
