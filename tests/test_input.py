"""Batches for training: all rows of an epoch, once, in a seeded order, from memory and from a stream."""

import numpy as np
import pytest
import tensorflow as tf

from models import input as examples

ROWS = 1000


class Plain:
    """A transform that parses and no more."""

    def parse(self, serialized):
        return tf.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.int64)})


@pytest.fixture
def shards(tmp_path):
    paths = []
    for shard in range(4):
        paths.append(str(tmp_path / f"{shard}"))
        with tf.io.TFRecordWriter(paths[-1]) as writer:
            for row in range(shard, ROWS, 4):
                feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[row]))
                writer.write(tf.train.Example(features=tf.train.Features(feature={"x": feature})).SerializeToString())
    return paths


@pytest.fixture(params=["memory", "stream"])
def kind(request, monkeypatch):
    if request.param == "stream":
        monkeypatch.setattr(examples, "IN_MEMORY", 0)
    return request.param


def order(shards, seed, batches):
    count, stream = examples.batches(shards, Plain(), ["x"], 100, seed)
    assert count == ROWS
    return np.concatenate([batch["x"].numpy()[:, 0] for batch in stream.take(batches)])


def test_an_epoch_has_every_row_once(shards, kind):
    assert sorted(order(shards, 1, 10)) == list(range(ROWS))


def test_the_order_follows_from_the_seed_and_changes_by_epoch(shards, kind):
    two = order(shards, 1, 20)
    assert (two == order(shards, 1, 20)).all()
    assert (two[:ROWS] != order(shards, 2, 10)).any()
    assert (two[:ROWS] != two[ROWS:]).any() and (two[:ROWS] != np.arange(ROWS)).any()


def test_load_keeps_the_order_of_the_shards(shards):
    loaded = examples.load(shards, Plain(), ["x"])["x"][:, 0]
    assert sorted(loaded) == list(range(ROWS))
    assert (loaded == examples.load(shards, Plain(), ["x"])["x"][:, 0]).all()
