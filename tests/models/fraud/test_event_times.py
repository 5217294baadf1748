"""Times are read from every type that holds them; what could be read in two ways is refused with its row."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.fraud.event_times import EARLIEST, LATEST, UNITS, TimeFormatError, read_times

NOON = datetime(2026, 1, 5, 12)
SECONDS = 1_767_614_400  # noon


def column(values: list[Any], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.string(), pa.large_string(), pa.decimal128(30)])
@pytest.mark.parametrize(("unit", "factor"), [*zip(UNITS, (1, 10**3, 10**6, 10**9), strict=True)])
def test_unit_of_numbers_follows_from_their_magnitude(kind: pa.DataType, unit: str, factor: int) -> None:
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    number: Any = SECONDS * factor
    convert: Any = str if is_text else Decimal if pa.types.is_decimal(kind) else float if kind == pa.float64() else int
    times = read_times(column([convert(number), None], kind))
    assert times.values.to_pylist() == [NOON, None] and times.conversion == f"{unit} since 1970"
    assert times.values.type == pa.timestamp("us")


@given(st.integers(EARLIEST, LATEST - 1), st.integers(0, 999_999))
def test_microseconds_are_read_exactly(seconds: int, micros: int) -> None:
    expected = [seconds * 10**6 + micros]
    for number in (expected[0], expected[0] * 1000 + 999):
        assert read_times(column([number])).values.cast(pa.int64()).to_pylist() == expected


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_timestamps_of_any_unit_and_zone_are_read_as_utc(unit: str, zone: str | None) -> None:
    times = read_times(column([NOON, None], pa.timestamp(unit)).cast(pa.timestamp(unit, zone)))
    assert times.values.to_pylist() == [NOON, None] and times.conversion == ""


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-05T12:00:00",
        "2026-01-05 12:00",
        "2026-01-05T12:00:00Z",
        "2026-01-05 12:00:00 UTC",
        "2026-01-05T14:00:00.000000999+02:00",
        " 2026-01-05 07:00:00 -0500",
    ],
)
def test_iso_texts_are_read_with_and_without_a_zone(text: str) -> None:
    for kind in (pa.string(), pa.large_string(), pa.binary()):
        assert read_times(column([text, None, "2026-01-05T12:00:00"], kind)).values.to_pylist() == [NOON, None, NOON]
    assert read_times(column([text, text]).dictionary_encode()).values.to_pylist() == [NOON, NOON]


def test_missing_values_stay_missing() -> None:
    for values in (["", None], [None, None], [float("nan"), None]):
        assert read_times(column(values)).values.to_pylist() == [None, None]
    assert len(read_times(column([], pa.string())).values) == 0


@pytest.mark.parametrize("values", [[date(2026, 1, 5)], ["2026-01-05"]])
def test_dates_are_midnight_and_named(values: list[Any]) -> None:
    times = read_times(column(values))
    assert times.values.to_pylist() == [datetime(2026, 1, 5)] and times.conversion == "dates, at midnight"


@pytest.mark.parametrize(
    ("values", "row", "reason"),
    [
        (["2026-01-05", "31.12.2026"], 2, "'31.12.2026' leaves open which number is the day; write the year first"),
        (["12/31/2026"], 1, "leaves open"),
        (["2026-01-05", "yesterday", "x"], 2, "'yesterday' is not a time; times are read as ISO 8601"),
        (["2026-02-28", "2026-02-30"], 2, "'2026-02-30' is not a time"),
        ([None, "2026-01-05 25:00"], 2, "'2026-01-05 25:00' is not a time"),
        ([str(SECONDS), "2026-01-05"], 2, "'2026-01-05' is another format than"),
        ([SECONDS, SECONDS, SECONDS * 1000], 3, "looks like milliseconds since 1970, most values like seconds"),
        ([SECONDS] * 3 + [10**15], 4, "looks like microseconds"),
        ([SECONDS, SECONDS, 10**17], 3, "is not a date"),
        ([SECONDS, float("inf"), SECONDS], 2, "is not a date"),
    ],
)
def test_a_value_that_is_not_a_time_is_refused_with_its_row(values: list[Any], row: int, reason: str) -> None:
    with pytest.raises(TimeFormatError, match=f"row {row}: .*{reason}") as caught:
        read_times(column(values))
    assert caught.value.row == row - 1


@pytest.mark.parametrize("number", [20_260_105, 202_601_051_230, 46_000, 172_792.0, 0])
def test_numbers_without_a_clear_unit_are_refused(number: float) -> None:
    with pytest.raises(TimeFormatError, match=rf"such as {number:.0f} are not times of 1990 to 2100.*ISO 8601"):
        read_times(column([number] * 2))


@pytest.mark.parametrize(("number", "unit"), [(10**16, "s"), (10**18, "us"), (-(10**17), "us")])
def test_timestamps_that_are_no_dates_are_refused(number: int, unit: str) -> None:
    with pytest.raises(TimeFormatError, match=rf"row 2: {number} {unit} since 1970 is not a date"):
        read_times(column([0, number], pa.timestamp(unit)))


@pytest.mark.parametrize("values", [column([True]), column([[1]]), column([1.0], pa.float32())])
def test_types_that_hold_no_times_are_refused(values: pa.ChunkedArray) -> None:
    with pytest.raises(TimeFormatError, match="a column of"):
        read_times(values)
