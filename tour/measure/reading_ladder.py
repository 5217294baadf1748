"""Ways to read the same shards, from one record at a time to the Trainer's input pipeline; for measurements only.

Question: B10
Answer: I build the input with tf.data, which describes it as a graph of datasets that runs in C++ in parallel with the
    training step. For speed, interleave several shards, parse whole batches instead of single records, cache work that
    would be repeated, run map and interleave in parallel with AUTOTUNE, and prefetch last, so that the next batch is
    prepared while the step runs. Then measure: only an input that the step waits for is worth optimizing.
Evidence: tour.evidence.data.input_speed.autotune_settings
Proof: tests/tour/evidence/test_input_speed.py::test_every_way_gives_the_same_rows
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from models import input as reading
from models.input import Transform

AUTO = tf.data.AUTOTUNE


@dataclass(frozen=True)
class Split:
    """A split to read.

    Attributes:
        paths: TFRecord shards.
        transform: The transform graph of the run.
        keep: Features to return.
        batch_size: Rows per batch.
        seed: Seed of every shuffle.
    """

    paths: Sequence[str]
    transform: Transform
    keep: Sequence[str]
    batch_size: int
    seed: int = 1

    def parse(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        """Parse and transform serialized examples, ``[batch]``; return the features in ``keep``."""
        features = self.transform.parse(serialized)
        return {name: features[name] for name in self.keep}

    def parse_one(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        """Parse and transform a single serialized example; the features have no batch axis."""
        return {name: value[0] for name, value in self.parse(tf.reshape(serialized, [1])).items()}


def naive(split: Split) -> tf.data.Dataset:
    """Read one file after the other; parse and transform one record at a time."""
    return tf.data.TFRecordDataset(list(split.paths)).map(split.parse_one).batch(split.batch_size)


def interleaved(split: Split) -> tf.data.Dataset:
    """Read several shards at once; parse and transform one record at a time."""
    return _records(split).map(split.parse_one).batch(split.batch_size)


def parallel(split: Split) -> tf.data.Dataset:
    """Parse and transform records in parallel; AUTOTUNE chooses the number of threads."""
    return _records(split).map(split.parse_one, num_parallel_calls=AUTO).batch(split.batch_size)


def batched(split: Split) -> tf.data.Dataset:
    """Parse and transform a batch of records at once."""
    return _records(split).batch(split.batch_size).map(split.parse, num_parallel_calls=AUTO)


def prefetched(split: Split) -> tf.data.Dataset:
    """Prepare the next batches while the current one is used."""
    return batched(split).prefetch(AUTO)


def cached(split: Split) -> tf.data.Dataset:
    """Cache transformed batches in memory during the first pass."""
    return batched(split).cache().prefetch(AUTO)


def shuffled(split: Split) -> tf.data.Dataset:
    """Cache, then shuffle row by row, as it is often written: batches are split into rows and assembled again."""
    rows = batched(split).cache().unbatch().shuffle(reading.SHUFFLE, seed=split.seed)
    return rows.batch(split.batch_size).prefetch(AUTO)


def streamed(split: Split) -> tf.data.Dataset:
    """The Trainer's pipeline for data larger than memory: shuffle shards and records, parse whole batches."""
    return _feed(reading.feed_from_files, split)


def full(split: Split) -> tf.data.Dataset:
    """The Trainer's pipeline for data that fits into memory: transform once, gather batches by shuffled index."""
    return _feed(reading.batches, split)


def load_all_into_numpy(split: Split) -> Iterator[dict[str, np.ndarray]]:
    """Load everything into NumPy, then yield batches by shuffled index; the memory limits the data.

    Question: B24
    Answer: Loading everything is fine while the data fits into memory; small data is even faster that way, because it
        is parsed once. But memory grows with the data, often several times over through copies. The first step waits
        for the last row, every worker holds a full copy, and a tf.function that captures the array puts it into the
        graph. Shards with tf.data need only a few buffers, whatever the size. So I measure what fits and stream beyond
        that.
    Evidence: tour.evidence.data.input_speed.arrays_and_streams
    Proof: tests/tour/evidence/test_input_speed.py::test_arrays_grow_with_the_data_and_streams_do_not
    """
    rows = reading.load(split.paths, split.transform, split.keep)
    order = np.random.default_rng(split.seed).permutation(len(next(iter(rows.values()))))
    for start in range(0, len(order) - split.batch_size + 1, split.batch_size):
        yield {name: values[order[start : start + split.batch_size]] for name, values in rows.items()}


WAYS: Mapping[str, Callable[[Split], tf.data.Dataset]] = {
    way.__name__: way for way in (naive, interleaved, parallel, batched, prefetched, cached, shuffled, streamed, full)
}


def records(split: Split) -> tf.data.Dataset:
    """Upper limit for any parsing: batches of records from the shards, not parsed."""
    return tf.data.TFRecordDataset(list(split.paths)).batch(split.batch_size)


def measure_rate(data: tf.data.Dataset, seconds: float, warm: int = 1) -> float:
    """Measure rows per second over at least ``seconds`` seconds after ``warm`` batches; restart at the end of the data."""
    batches, rows = _repeat_forever(data), 0
    for _ in range(warm):
        next(batches)
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or not rows:
        rows += count_rows(next(batches))
    return rows / elapsed


def measure_waiting(data: tf.data.Dataset, step: Callable[[], Any], steps: int) -> tuple[float, float]:
    """Mean milliseconds of waiting for a batch and of a step; the input pipeline runs in parallel with the step."""
    batches, waits, works = _repeat_forever(data), [], []
    next(batches)
    for _ in range(steps):
        started = time.perf_counter()
        next(batches)
        arrived = time.perf_counter()
        step()
        waits.append(arrived - started)
        works.append(time.perf_counter() - arrived)
    return 1000 * float(np.mean(waits)), 1000 * float(np.mean(works))


def count_rows(batch: Any) -> int:
    return int((next(iter(batch.values())) if isinstance(batch, Mapping) else batch).shape[0])


def _repeat_forever(data: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from data


def _records(split: Split) -> tf.data.Dataset:
    shards = tf.data.Dataset.from_tensor_slices(list(split.paths))
    return shards.interleave(tf.data.TFRecordDataset, cycle_length=4, num_parallel_calls=AUTO, deterministic=True)


def _feed(make: Callable[..., Any], split: Split) -> tf.data.Dataset:
    """One pass of an endless input."""
    rows, feed = make(split.paths, split.transform, split.keep, split.batch_size, split.seed)
    return feed().take(max(1, rows // split.batch_size))
