"""The samples of a push: which rows are selected, and that all arrays of a sample belong to one row."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.training.edge import samples

ROWS = 300
RAW = {
    "amount": tf.io.FixedLenFeature([1], tf.float32),
    "shop": tf.io.FixedLenFeature([1], tf.string),
    "picture": tf.io.FixedLenFeature([1], tf.string),
    "tags": tf.io.VarLenFeature(tf.string),
}


def record(row: int) -> bytes:
    def feature(*values: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    amount = tf.train.Feature(float_list=tf.train.FloatList(value=[row + 0.5]))
    tags = feature(*[b"a", b"b"][: row % 3])
    shop, picture = feature(f"läden {row}".encode()), feature(b"\x89PNG\xff")
    features = {"amount": amount, "shop": shop, "picture": picture, "tags": tags}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


@pytest.mark.parametrize("classes", [1, 3])
def test_each_sample_holds_one_row_before_and_after(tmp_path: Path, classes: int) -> None:
    scores = np.random.default_rng(2).random((ROWS, classes)).astype(np.float32)
    inputs = {"row": np.arange(ROWS).reshape(-1, 1)}
    serialized = tf.constant([record(row) for row in range(ROWS)])
    flat = scores[:, 0] if classes == 1 else scores
    samples.write(tmp_path / "samples.npz", serialized, RAW, inputs, {"score": flat}, flat)
    with np.load(tmp_path / "samples.npz") as arrays:  # raises for arrays that would need a pickle
        written = dict(arrays)
    assert set(written) == {"raw/amount", "raw/shop", "raw/tags", "input/row", "answer/score"}
    rows = written["input/row"][:, 0]
    assert 10 < len(rows) == len(set(rows)) <= samples.COUNT
    assert (written["raw/amount"][:, 0] == rows + 0.5).all() and (written["answer/score"] == flat[rows]).all()
    assert written["raw/shop"][:, 0].tolist() == [f"läden {row}" for row in rows]
    assert [sum(tag != "" for tag in tags) for tags in written["raw/tags"]] == [row % 3 for row in rows]


def test_single_score_rows_are_dense_at_the_top() -> None:
    scores = np.random.default_rng(4).permutation(1000)[:, None]
    selected = scores[samples.select_sample_rows(scores), 0]
    assert selected[0] == 999 and selected[-1] == 0 and (np.diff(selected) < 0).all()
    assert (selected >= 990).sum() > 5


def test_multiclass_rows_are_evenly_spaced() -> None:
    selected = samples.select_sample_rows(np.zeros((1000, 3)))
    assert selected[0] == 0 and selected[-1] == 999 and np.diff(selected).max() < 50


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_few_rows_are_selected_at_most_once(rows: int) -> None:
    for classes in (1, 3):
        selected = samples.select_sample_rows(np.zeros((rows, classes)))
        assert len(set(selected)) == len(selected) <= rows and set(selected) <= set(range(rows))
