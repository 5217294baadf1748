"""The samples of a push: which rows they are, and that what they say of a row is one row's."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.training import samples

ROWS = 300
RAW = {
    "amount": tf.io.FixedLenFeature([1], tf.float32),
    "shop": tf.io.FixedLenFeature([1], tf.string),
    "picture": tf.io.FixedLenFeature([1], tf.string),
    "tags": tf.io.VarLenFeature(tf.string),
}


def record(row: int) -> bytes:
    def of(*values: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    amount = tf.train.Feature(float_list=tf.train.FloatList(value=[row + 0.5]))
    tags = of(*[b"a", b"b"][: row % 3])
    features = {"amount": amount, "shop": of(f"läden {row}".encode()), "picture": of(b"\x89PNG\xff"), "tags": tags}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


@pytest.mark.parametrize("classes", [1, 3])
def test_each_sample_holds_one_row_before_and_after(tmp_path: Path, classes: int) -> None:
    scores = np.random.default_rng(2).random((ROWS, classes)).astype(np.float32)
    inputs = {"row": np.arange(ROWS).reshape(-1, 1)}
    serialized = tf.constant([record(row) for row in range(ROWS)])
    flat = scores[:, 0] if classes == 1 else scores
    samples.write(tmp_path / "samples.npz", serialized, RAW, inputs, {"score": flat}, flat)
    with np.load(tmp_path / "samples.npz") as arrays:  # which refuses what would need a pickle
        found = dict(arrays)
    assert set(found) == {"raw/amount", "raw/shop", "raw/tags", "input/row", "answer/score"}
    rows = found["input/row"][:, 0]
    assert 10 < len(rows) == len(set(rows)) <= samples.COUNT
    assert (found["raw/amount"][:, 0] == rows + 0.5).all() and (found["answer/score"] == flat[rows]).all()
    assert found["raw/shop"][:, 0].tolist() == [f"läden {row}" for row in rows]
    assert [sum(tag != "" for tag in tags) for tags in found["raw/tags"]] == [row % 3 for row in rows]


def test_one_score_goes_from_the_highest_to_the_lowest_close_together_at_the_top() -> None:
    scores = np.random.default_rng(4).permutation(1000)[:, None]
    taken = scores[samples.telling(scores), 0]
    assert taken[0] == 999 and taken[-1] == 0 and (np.diff(taken) < 0).all()
    assert (taken >= 990).sum() > 5


def test_several_scores_are_taken_all_along() -> None:
    taken = samples.telling(np.zeros((1000, 3)))
    assert taken[0] == 0 and taken[-1] == 999 and np.diff(taken).max() < 50


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_few_rows_are_all_taken_or_fewer(rows: int) -> None:
    for classes in (1, 3):
        taken = samples.telling(np.zeros((rows, classes)))
        assert len(set(taken)) == len(taken) <= rows and set(taken) <= set(range(rows))
