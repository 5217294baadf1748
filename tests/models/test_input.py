"""Batches for training: all rows of an epoch, once, in a seeded order, from memory and from a stream."""

import numpy as np
import pytest
import tensorflow as tf

from models import input as examples

ROWS = 1000


class Plain:
    """A transform that only parses."""

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


def read_order(shards, seed, batches, first=0, share=None):
    count, feed = examples.batches(shards, Plain(), ["x"], 100, seed)
    assert count == ROWS
    stream = feed(first, share or examples.BatchShare())
    return np.concatenate([batch["x"].numpy()[:, 0] for batch in stream.take(batches)])


def test_an_epoch_has_every_row_once(shards, kind):
    assert sorted(read_order(shards, 1, 10)) == list(range(ROWS))


def test_the_order_follows_from_the_seed_and_changes_by_epoch(shards, kind):
    two = read_order(shards, 1, 20)
    assert (two == read_order(shards, 1, 20)).all()
    assert (two[:ROWS] != read_order(shards, 2, 10)).any()
    assert (two[:ROWS] != two[ROWS:]).any() and (two[:ROWS] != np.arange(ROWS)).any()


def test_load_keeps_the_order_of_the_shards(shards):
    loaded = examples.load(shards, Plain(), ["x"])["x"][:, 0]
    assert sorted(loaded) == list(range(ROWS))
    assert (loaded == examples.load(shards, Plain(), ["x"])["x"][:, 0]).all()


def test_a_stream_can_begin_at_any_step(shards, kind):
    whole = read_order(shards, 1, 27)
    assert (read_order(shards, 1, 4, first=23) == whole[2300:]).all()


def test_slices_of_replicas_make_up_the_global_batch(shards, kind):
    whole = read_order(shards, 1, 12)
    pipelines = [
        read_order(shards, 1, 24, share=examples.BatchShare(4, first, 2)).reshape(12, 2, 25) for first in (0, 2)
    ]
    assert (np.concatenate(pipelines, axis=1).ravel() == whole).all()


def test_slices_begin_at_any_step_too(shards, kind):
    share = examples.BatchShare(4, 2, 2)
    assert (read_order(shards, 1, 6, first=5, share=share) == read_order(shards, 1, 16, share=share)[250:]).all()


def test_indivisible_batch_is_refused(shards):
    with pytest.raises(ValueError, match="A batch of 100 cannot be cut into 3 equal slices"):
        read_order(shards, 1, 1, share=examples.BatchShare(3, 0, 1))


def test_stored_rows_give_the_batches_of_rows_in_memory(tmp_path):
    rows = {"x": np.arange(ROWS)[:, None], "p": np.random.default_rng(1).normal(size=(ROWS, 2, 3)).astype(np.float32)}
    spec = examples.store(rows, tmp_path)
    _, memory = examples.feed_from_memory(rows, 64, 5)
    file = examples.feed_from_store(tmp_path, spec, ROWS, 64, 5)
    for batch, other in zip(memory(3).take(4), file(3).take(4), strict=True):
        assert all((batch[name].numpy() == other[name].numpy()).all() for name in rows)
