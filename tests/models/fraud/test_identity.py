"""Ids: what becomes of a value, and that single values and columns follow the same rule."""

import decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.fraud.identity import (
    BLANKS,
    EXACT,
    MAX_CATEGORY_LENGTH,
    MAX_ID_LENGTH,
    IdentityError,
    normalise_categories,
    normalise_category,
    normalise_id,
    normalise_ids,
)
from models.fraud.online_requests import Purchase

ACCEPTED = [
    ("c1", "c1"),
    ("  c 1\t\u00a0\n", "c 1"),
    (4_000_000_000_000_000, "4000000000000000"),
    (4e15, "4000000000000000"),
    ("4000000000000000.0", "4000000000000000"),
    ("4e+15", "4000000000000000"),
    ("1.5E+3", "1500"),
    (-7.0, "-7"),
    (0.0, "0"),
    (10**30, "1" + "0" * 30),
    (float(EXACT - 1), "9007199254740991"),
    ("12e4", "12e4"),  # may be a hexadecimal id
    ("007", "007"),
    ("1.10", "1.10"),
    ("x" * MAX_ID_LENGTH, "x" * MAX_ID_LENGTH),
    (" " + "x" * MAX_ID_LENGTH + " ", "x" * MAX_ID_LENGTH),
]
REFUSED = [
    (None, "missing"),
    ("", "empty"),
    ("nan", "missing value"),
    (" \t\u3000", "empty"),
    (1.5, "not a whole number"),
    ("1.5e+0", "not a whole number"),
    (float("nan"), "not a whole number"),
    (float("inf"), "not a whole number"),
    (float(EXACT), "exactly only below 2^53"),
    ("9007199254740993.0", "exactly only below 2^53"),
    ("1e+22", "exactly only below 2^53"),
    ("x" * (MAX_ID_LENGTH + 1), "at most 128"),
    (10**MAX_ID_LENGTH, "at most 128"),
]


def test_blanks_are_those_of_unicode():
    assert set(BLANKS) == {character for character in map(chr, range(0x10000)) if character.isspace()}


@pytest.mark.parametrize(("value", "expected"), ACCEPTED)
def test_value_becomes_an_id(value, expected):
    assert normalise_id(value) == expected == normalise_id(expected)


@pytest.mark.parametrize(
    ("value", "reason"), [*REFUSED, (True, "not bool"), (["c1"], "not list"), (b"c1", "not bytes")]
)
def test_value_that_is_no_id_is_refused_with_the_reason(value, reason):
    with pytest.raises(IdentityError, match=reason.replace("^", r"\^")):
        normalise_id(value)


def test_column_of_texts_follows_the_rule_of_single_values():
    values, expected = zip(*[pair for pair in ACCEPTED if isinstance(pair[0], str)], strict=True)
    texts = pa.chunked_array([values[:3], values[3:]])
    for kind in (pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())):
        column = texts.cast(pa.string()).dictionary_encode() if pa.types.is_dictionary(kind) else texts.cast(kind)
        assert normalise_ids(column).to_pylist() == list(expected)
        assert normalise_ids(column).type == pa.string()
    assert normalise_ids(pa.array(values)).to_pylist() == list(expected)


def test_column_of_numbers_becomes_their_digits():
    assert normalise_ids(pa.array([4e15, -7.0, 0.0])).to_pylist() == ["4000000000000000", "-7", "0"]
    assert normalise_ids(pa.array([2.0**24 - 1, 1.0], pa.float32())).to_pylist() == ["16777215", "1"]
    assert normalise_ids(pa.array([1, 2**62])).to_pylist() == ["1", str(2**62)]
    assert normalise_ids(pa.array([decimal.Decimal("4001.00"), decimal.Decimal("17")])).to_pylist() == ["4001", "17"]
    assert normalise_ids(pa.array([], pa.string())).to_pylist() == []


@pytest.mark.parametrize(("value", "reason"), [pair for pair in REFUSED if not isinstance(pair[0], int)])
def test_column_with_a_value_that_is_no_id_names_its_row(value, reason):
    column = pa.chunked_array([[1.0, 2.0], [value, None]]) if isinstance(value, float) else pa.array(["a", "b", value])
    with pytest.raises(IdentityError, match="^row 3: .*" + reason.replace("^", r"\^")) as error:
        normalise_ids(column)
    assert error.value.row == 2


@pytest.mark.parametrize(("kind", "digits"), [(pa.float16(), 11), (pa.float32(), 24)])
def test_narrow_floats_that_are_not_exact_are_no_ids(kind, digits):
    column = pa.array(np.array([1.0, 2.0**digits]).astype(kind.to_pandas_dtype()), kind)
    with pytest.raises(IdentityError, match=rf"exactly only below 2\^{digits}; give the id as text") as error:
        normalise_ids(column)
    assert error.value.row == 1


CATEGORIES = [
    (" fuel\t", "fuel"),
    ("none", "none"),
    ("5411.0", "5411"),
    ("1.5", "1.5"),
    ("1e+300", "1e+300"),
    ("x" * MAX_CATEGORY_LENGTH, "x" * MAX_CATEGORY_LENGTH),
    ("nan", None),
    (" NULL ", None),
    ("  ", None),
    (None, None),
]


@pytest.mark.parametrize(("value", "expected"), CATEGORIES)
def test_value_becomes_a_category_in_training_and_requests(value, expected):
    purchase = {"transaction_id": "t", "customer_id": "c", "merchant_id": "m", "amount": 1.0}
    request = Purchase(**purchase, event_time="2026-01-05T12:00:00Z", category=value)
    assert normalise_category(value) == expected == request.category
    assert normalise_categories(pa.array([value], pa.string())).to_pylist() == [expected]


def test_category_that_is_too_long_is_refused():
    with pytest.raises(IdentityError, match="65 characters"):
        normalise_category("x" * 65)
    with pytest.raises(IdentityError, match="row 2: .*65 characters"):
        normalise_categories(pa.array(["a", "x" * 65, "x" * 65]))


@given(st.lists(st.none() | st.text(max_size=70) | st.sampled_from(["nan", "5.0", " a "]), max_size=20))
def test_category_columns_and_single_values_agree(values):
    try:
        expected = [normalise_category(value) for value in values]
    except IdentityError:
        expected = None
    try:
        assert normalise_categories(pa.array(values, pa.string())).to_pylist() == expected
    except IdentityError:
        assert expected is None


@pytest.mark.parametrize("column", [pa.array([True]), pa.array([0], pa.timestamp("us")), pa.array([b"\xff"])])
def test_column_of_another_type_is_refused(column):
    with pytest.raises(IdentityError, match="the column "):
        normalise_ids(column)


@given(
    st.lists(st.text(st.sampled_from("0123456789.eE+-x" + BLANKS), max_size=12) | st.text(max_size=140), min_size=1)
    | st.lists(st.floats() | st.integers(-(2**53), 2**53).map(float), min_size=1)
    | st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1)
)
def test_columns_and_single_values_agree(values):
    expected, refused_row = [], None
    for row, value in enumerate(values):
        try:
            expected.append(normalise_id(value))
        except IdentityError:
            refused_row = row
            break
    if refused_row is None:
        assert normalise_ids(pa.array(values)).to_pylist() == expected
    else:
        with pytest.raises(IdentityError) as error:
            normalise_ids(pa.array(values))
        assert error.value.row == refused_row
