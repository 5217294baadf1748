"""Copies of rows and shared ids, against sets of tuples."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.fraud.raw.duplicates import RowIndex, SharedId, drop_copies, hash_column, hash_rows

A, B, C = Path("a"), Path("b"), Path("c")


def table(*rows: tuple[str, float]) -> pa.Table:
    names, numbers = zip(*rows, strict=True) if rows else ((), ())
    return pa.table({"transaction_id": pa.array(names, pa.string()), "amount": pa.array(numbers, pa.float64())})


def index(**tables: pa.Table) -> RowIndex:
    result = RowIndex()
    for name, rows in tables.items():
        result.add(Path(name), rows)
    return result


@given(st.lists(st.one_of(st.none(), st.text(max_size=20)), max_size=50), st.integers(0, 50))
@settings(max_examples=200)
def test_texts_have_equal_hashes_if_and_only_if_they_are_equal(texts: list[str | None], cut: int) -> None:
    column = pa.array(texts, pa.string())
    hashes = hash_column(pa.chunked_array([column[:cut], column[cut:]])).tolist()
    assert len(set(hashes)) == len(set(texts)) == len(set(zip(hashes, texts, strict=True)))


@pytest.mark.parametrize(
    "values", [[0, 1, 2**40, None], [0.0, 1.5, 1e300, None], [0, 1, None]], ids=["int64", "float64", "int8"]
)
def test_numbers_have_different_hashes(values: list) -> None:
    assert len(set(hash_column(pa.chunked_array([pa.array(values * 2)])).tolist())) == len(values)


def test_a_million_consecutive_ids_have_different_hashes() -> None:
    column = pa.chunked_array([pa.array(np.arange(1_000_000)).cast(pa.string())])
    assert len(np.unique(hash_column(column))) == 1_000_000


def test_values_in_exchanged_columns_have_another_hash() -> None:
    hashes = hash_rows(pa.table({"a": ["x", "y"], "b": ["y", "x"]}))
    assert hashes[0] != hashes[1]


def test_the_first_of_equal_rows_remains_in_order() -> None:
    rows = [("t1", 1.0), ("t2", 1.0), ("t1", 1.0), ("t1", 2.0), ("t2", 1.0)]
    assert drop_copies(table(*rows)).equals(table(("t1", 1.0), ("t2", 1.0), ("t1", 2.0)))
    assert drop_copies(table()).equals(table())


def test_copies_are_found_over_files_with_their_rows() -> None:
    repeated = index(
        a=table(("t1", 1), ("t1", 1), ("t2", 2)),
        b=table(("t3", 3), ("t4", 4)),
        c=table(("t2", 2), ("t5", 5), ("t4", 4)),
    )
    assert {path: rows.tolist() for path, rows in repeated.find_copies().items()} == {A: [1], C: [0, 2]}
    assert repeated.find_shared_id() is None and repeated.find_copied_files() == []
    assert RowIndex().find_copies() == {} and RowIndex().find_shared_id() is None


def test_an_id_at_two_different_rows_is_found_with_both_places() -> None:
    repeated = index(a=table(("t1", 1), ("t2", 2)), b=table(("t3", 3), ("t2", 5), ("t1", 9)))
    assert repeated.find_shared_id() == SharedId((A, 1), (B, 1), 2)
    assert index(a=table(("t1", 1), ("t1", 2))).find_shared_id() == SharedId((A, 0), (A, 1), 1)


@pytest.mark.parametrize(
    ("tables", "copied"),
    [
        ({"a": [1, 2], "b": [2, 1]}, [(B, A)]),
        ({"a": [1, 2], "b": [1, 2, 3]}, [(A, B)]),
        ({"a": [1, 2, 3], "b": [3]}, [(B, A)]),
        ({"a": [1, 2], "b": [2, 3], "c": [1, 3]}, []),
        ({"a": [1], "b": [1], "c": [1]}, [(B, A), (C, A)]),
        ({"a": [1, 1], "b": [2]}, []),
        ({"a": [1, 1, 2], "b": [1, 2, 2, 3]}, [(A, B)]),
    ],
)
def test_a_file_whose_rows_are_all_in_another_is_found(tables: dict, copied: list) -> None:
    rows = {name: table(*((f"t{number}", number) for number in numbers)) for name, numbers in tables.items()}
    assert index(**rows).find_copied_files() == copied
