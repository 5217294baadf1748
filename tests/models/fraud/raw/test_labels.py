"""Labels: what is fraud, what is honest, what is no label, and what is refused with its row."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from models.fraud.raw.columns import ColumnError
from models.fraud.raw.labels import read_labels


def read(values: Any, *words: str) -> list[int | None]:
    return read_labels(pa.chunked_array([pa.array(values)]), *words).to_pylist()


@pytest.mark.parametrize(
    "values",
    [
        ["1", "0", ""],
        ["1.0", "0.0", None],
        ["true", "FALSE", "nan"],
        [" True", "false ", "NULL"],
        [b"1", b"0", b""],
        [True, False, None],
        [1, 0, None],
        np.array([1, 0, np.nan]),
        np.array([1, 0, np.nan], np.float32),
        pa.array([1, 0, None], pa.uint8()),
        pa.array(["1", "0", None], pa.large_string()),
        pa.array(["true", "false", None]).dictionary_encode(),
    ],
    ids=str,
)
def test_booleans_and_digits_of_any_type_are_labels(values: Any) -> None:
    assert read(values) == [1, 0, None]


@pytest.mark.parametrize(("positive", "negative"), [("yes", "no"), ("Y", "N"), ("2", "1"), ("fraud", "legit")])
def test_named_values_are_labels(positive: str, negative: str) -> None:
    values = [positive.upper(), negative, "", f" {positive} "]
    assert read(values, positive, negative) == [1, 0, None, 1]


def test_named_numbers_are_labels() -> None:
    assert read([2, 1, None], "2", "1") == read([2.0, 1.0, None], "2", "1") == [1, 0, None]


@pytest.mark.parametrize(
    ("values", "row", "reason"),
    [
        (["0", "yes", "no"], 1, "'yes' is not a label, the column has '0', 'yes', 'no'; write 1 for fraud"),
        (["no", "yes", "no"], 0, "--set positive_label=yes --set negative_label=no"),
        ([0, 1, 2], 2, "'2' is not a label"),
        ([0, -1], 1, "'-1' is not a label"),
        ([0.0, 0.5], 1, "'0.5' is not a label"),
        (list("abcdefgh"), 0, r"'a', 'b', 'c', 'd', 'e', 'f', \.\.\.;"),
    ],
)
def test_other_values_are_refused_with_row_and_values(values: list, row: int, reason: str) -> None:
    with pytest.raises(ColumnError, match=reason) as caught:
        read(values)
    assert caught.value.row == row


def test_a_third_value_beside_two_named_ones_is_refused() -> None:
    for third in ("maybe", "1", "0"):
        with pytest.raises(ColumnError, match=f"'{third}' is not a label") as caught:
            read(["yes", "no", third], "yes", "no")
        assert caught.value.row == 2


def test_a_nested_column_holds_no_labels() -> None:
    with pytest.raises(ColumnError, match="holds no labels"):
        read([[1], [0]])
