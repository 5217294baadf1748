"""Slices without the Evaluator: their rows, and specs that are refused."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from models.evaluation import slices

SPECS = [{}, {"featureKeys": ["shop"]}, {"featureKeys": ["shop", "day"]}, {"featureValues": {"shop": "b"}}]
ROWS = [("a", 1), ("b", 1), ("a", 2), (None, 2), ("b", 1)]


def write_rows(path: Path, rows: list[tuple]) -> str:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, (shop, day) in enumerate(rows):
            example = tf.train.Example()
            example.features.feature["x"].float_list.value.append(number)
            example.features.feature["day"].int64_list.value.append(day)
            if shop is not None:
                values = [shop] if isinstance(shop, str) else shop
                example.features.feature["shop"].bytes_list.value.extend(value.encode() for value in values)
            writer.write(example.SerializeToString())
    return str(path)


def transform() -> SimpleNamespace:
    spec = {"x": tf.io.FixedLenFeature([1], tf.float32)}
    return SimpleNamespace(parse=lambda serialized: tf.io.parse_example(serialized, spec))


def test_rows_and_their_slice_columns_come_in_the_order_of_the_files(tmp_path: Path) -> None:
    paths = [write_rows(tmp_path / "one", ROWS[:2]), write_rows(tmp_path / "two", ROWS[2:])]
    features, columns = slices.read_split(paths, transform(), ("x",), ("day", "nowhere", "shop"))
    assert features["x"][:, 0].tolist() == [0, 1, 0, 1, 2]
    assert columns["shop"].tolist() == ["a", "b", "a", None, "b"]
    assert columns["day"].tolist() == ["1", "1", "2", "2", "1"]
    assert columns["nowhere"].tolist() == [None] * 5


def test_no_slices_need_no_columns(tmp_path: Path) -> None:
    features, columns = slices.read_split([write_rows(tmp_path / "one", ROWS)], transform(), ("x",), ())
    assert features["x"].shape == (5, 1) and columns == {}


def test_slices_hold_the_rows_that_a_loop_finds() -> None:
    columns = {"shop": np.array([shop for shop, _ in ROWS], object), "day": np.array([str(d) for _, d in ROWS], object)}
    by_key = slices.find_slices(SPECS, columns, len(ROWS))
    expected = {(): [0, 1, 2, 3, 4]}
    for row, (shop, day) in enumerate(ROWS):
        for key in ((("shop", shop),), (("day", str(day)), ("shop", shop))):
            if shop is not None:
                expected.setdefault(key, []).append(row)
    assert {key: rows.tolist() for key, rows in by_key.items()} == expected
    assert slices.list_features(SPECS) == ["day", "shop"]


def test_value_that_no_row_has_gives_no_slice() -> None:
    columns = {"shop": np.array(["a", None], object)}
    assert slices.find_slices([{"featureValues": {"shop": "z"}}], columns, 2) == {}


def test_several_values_and_sql_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="A row has 2 values of 'shop'"):
        slices.read_split([write_rows(tmp_path / "one", [(["a", "b"], 1)])], transform(), ("x",), ("shop",))
    with pytest.raises(ValueError, match="SQL"):
        slices.find_slices([{"sliceKeysSql": ["SELECT 1"]}], {}, 2)
