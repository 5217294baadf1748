"""Numbers and texts of a column: types and notations that are read, and what is refused with its row."""

from collections import Counter
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from models.fraud.identity import IdentityError
from models.fraud.raw.columns import ColumnError
from models.fraud.raw.values import read_categories, read_ids, read_numbers


def column(values: Any) -> pa.ChunkedArray:
    return pa.chunked_array([values if isinstance(values, pa.Array) else pa.array(values)])


def amounts(values: Any, converted: Counter[str] | None = None) -> list[float]:
    return read_numbers(column(values), "amount", Counter() if converted is None else converted, 1e6).to_pylist()


@pytest.mark.parametrize(
    "values",
    [
        ["1", "2.50"],
        [" 1. ", "+2.5e0"],
        [1.0, 2.5],
        np.array([1, 2.5], np.float32),
        np.array([1, 2.5], np.float16),
        [Decimal("1.00"), Decimal("2.50")],
        [b"1", b"2.5"],
        pa.array(["1", "2.5"]).dictionary_encode(),
        pa.array(["1", "2.5"], pa.large_string()),
    ],
    ids=str,
)
def test_numbers_of_any_type_are_read(values: Any) -> None:
    assert amounts(values) == [1.0, 2.5]


def test_decimals_are_the_nearest_floats() -> None:
    texts = [f"{cents // 100}.{cents % 100:02d}" for cents in range(0, 100_000, 7)]
    assert amounts([Decimal(text) for text in texts]) == [float(text) for text in texts] == amounts(texts)


def test_integers_are_numbers() -> None:
    assert amounts(pa.array([0, 1_000_000], pa.int32())) == [0.0, 1e6]


@pytest.mark.parametrize(
    ("values", "row", "reason"),
    [
        (["1", "a lot"], 1, "'a lot' is not a number such as 1234.56"),
        (["1", "+nan"], 1, "'.nan' is not a number"),
        (["1", "-inf"], 1, "'-inf' is not a number"),
        (["1", "12.50 EUR", "$3"], 1, "EUR.* 1 more row has this fault"),
        (["1", "1e999"], 1, "inf|1e999 is not between 0 and 1,000,000"),
        (["1", "0x10"], 1, "not a number"),
        ([1.0, None], 1, "a value is missing"),
        ([1.0, np.nan, np.nan, np.nan], 1, "a value is missing; .* 2 more rows have this fault"),
        (["1", ""], 1, "a value is missing"),
        (["1", "NaN"], 1, "a value is missing"),
        ([1.0, np.inf], 1, "inf is not between"),
        ([1.0, -0.01], 1, "-0.01 is not between 0 and 1,000,000"),
        ([1, 1_000_001], 1, "1000001 is not between"),
        ([2**63 - 1], 0, "is not between"),
        ([True, False], None, "a column of bool holds no numbers"),
        ([[1.0], [2.0]], None, "a column of list"),
    ],
)
def test_other_values_are_refused_with_their_row(values: Any, row: int | None, reason: str) -> None:
    with pytest.raises(ColumnError, match=reason) as caught:
        amounts(values)
    assert caught.value.row == row


def test_decimal_commas_are_read_where_they_are_clear() -> None:
    converted: Counter[str] = Counter()
    assert amounts(["1,5", "1234,567", "8"], converted) == [1.5, 1234.567, 8.0]
    assert converted == {"decimal commas in amount": 2}


@pytest.mark.parametrize(
    ("values", "row", "reason"),
    [
        (["5", "1,234", "7,000"], 1, "'1,234' may have a decimal comma or a thousands separator"),
        (["1,5", "2.5"], 1, "'2.5' has a point where other values have a decimal comma"),
        (["1.234,56"], 0, "'1.234,56' is not a number"),
        (["1,234.56"], 0, "'1,234.56' is not a number"),
    ],
)
def test_ambiguous_commas_are_refused(values: list[str], row: int, reason: str) -> None:
    with pytest.raises(ColumnError, match=reason) as caught:
        amounts(values)
    assert caught.value.row == row


def test_missing_numbers_of_an_optional_column_are_the_default() -> None:
    converted: Counter[str] = Counter()
    values = column([None, float("nan"), 2.0])
    assert read_numbers(values, "distance_km", converted, 25_000.0, 0.0).to_pylist() == [0.0, 0.0, 2.0]
    assert converted == {"missing distance_km read as 0": 2}


def test_ids_are_normalised_and_changes_counted() -> None:
    converted: Counter[str] = Counter()
    assert read_ids(column([" c1", "c2"]), "customer_id", converted).to_pylist() == ["c1", "c2"]
    assert read_ids(column([4e15, 7.0]), "merchant_id", converted).to_pylist() == ["4000000000000000", "7"]
    assert read_ids(column([7, 8]), "transaction_id", converted).to_pylist() == ["7", "8"]
    assert converted == {"blanks or float notation in customer_id": 1, "blanks or float notation in merchant_id": 2}


@pytest.mark.parametrize("value", ["nan", "NULL", "None", "<NA>", "", " "])
def test_a_missing_word_is_no_id(value: str) -> None:
    with pytest.raises(IdentityError) as caught:
        read_ids(column(["c1", value]), "customer_id", Counter())
    assert caught.value.row == 1


def test_categories_are_trimmed_and_missing_words_are_null() -> None:
    converted: Counter[str] = Counter()
    values = column(["fuel", " fuel ", "nan", "", None, "none", "5411.0", "1.5"])
    expected = ["fuel", "fuel", None, None, None, "none", "5411", "1.5"]
    assert read_categories(values, "category", converted).to_pylist() == expected
    assert converted == {"blanks or missing words in category": 3}
    assert read_categories(column([5411.0, np.nan]), "category", converted).to_pylist() == ["5411", None]


def test_a_category_that_is_too_long_is_refused_with_its_row() -> None:
    with pytest.raises(IdentityError, match="65 characters; at most 64") as caught:
        read_categories(column(["a", "b", "x" * 65]), "category", Counter())
    assert caught.value.row == 2
