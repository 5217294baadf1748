"""Ways to read the same shards, from one record at a time to what the Trainer does: to be measured, not to be used.

Question: B10
Answer: tf.data describes input as a graph of datasets that runs in C++ beside the step. Fast means: read several shards
    interleaved; parse whole batches, not records; do what is repeated once, by cache; let map and interleave run in
    parallel with AUTOTUNE; prefetch last, so that the next batch is made while the step runs. Then measure: only an
    input that the step waits for is worth more work.
Evidence: tour.evidence.data.input_speed.tuned
Proof: tests/tour/evidence/test_input_speed.py::test_every_way_gives_the_same_rows
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from models import input as reading
from models.input import Transform

AUTO = tf.data.AUTOTUNE
BLOCK = 1 << 20


@dataclass(frozen=True)
class Split:
    """What every way of reading needs.

    Attributes:
        paths: TFRecord shards.
        transform: The transform graph of the run.
        keep: Features that are used.
        batch_size: Rows of a batch.
        seed: Of every shuffle.
    """

    paths: Sequence[str]
    transform: Transform
    keep: Sequence[str]
    batch_size: int
    seed: int = 1

    def parse(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        """Serialized examples, ``[batch]``, to the features that are used."""
        features = self.transform.parse(serialized)
        return {name: features[name] for name in self.keep}

    def one(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        """One serialized example to its features, without the batch's axis."""
        return {name: value[0] for name, value in self.parse(tf.reshape(serialized, [1])).items()}


def naive(split: Split) -> tf.data.Dataset:
    """One file after the other, one record at a time parsed and transformed."""
    return tf.data.TFRecordDataset(list(split.paths)).map(split.one).batch(split.batch_size)


def interleaved(split: Split) -> tf.data.Dataset:
    """Several shards at once, still a record at a time."""
    return _records(split).map(split.one).batch(split.batch_size)


def parallel(split: Split) -> tf.data.Dataset:
    """Records parsed by as many threads as pay off."""
    return _records(split).map(split.one, num_parallel_calls=AUTO).batch(split.batch_size)


def batched(split: Split) -> tf.data.Dataset:
    """A batch of records parsed and transformed at once."""
    return _records(split).batch(split.batch_size).map(split.parse, num_parallel_calls=AUTO)


def prefetched(split: Split) -> tf.data.Dataset:
    """The next batches made while the present one is used."""
    return batched(split).prefetch(AUTO)


def cached(split: Split) -> tf.data.Dataset:
    """Transformed batches kept in memory from the first pass on."""
    return batched(split).cache().prefetch(AUTO)


def shuffled(split: Split) -> tf.data.Dataset:
    """Kept, then shuffled row by row, as it is often written: rows are taken apart and put together again."""
    rows = batched(split).cache().unbatch().shuffle(reading.SHUFFLE, seed=split.seed)
    return rows.batch(split.batch_size).prefetch(AUTO)


def streamed(split: Split) -> tf.data.Dataset:
    """What the Trainer does with data larger than memory: shards and records shuffled, whole batches parsed."""
    return _feed(reading.streamed, split)


def full(split: Split) -> tf.data.Dataset:
    """What the Trainer does with data that fits: transformed once, batches gathered by shuffled index."""
    return _feed(reading.batches, split)


WAYS: Mapping[str, Callable[[Split], tf.data.Dataset]] = {
    way.__name__: way for way in (naive, interleaved, parallel, batched, prefetched, cached, shuffled, streamed, full)
}


def records(split: Split) -> tf.data.Dataset:
    """The limit of any parsing: records from the shards, not looked at, in batches."""
    return tf.data.TFRecordDataset(list(split.paths)).batch(split.batch_size)


def bytes_per_second(paths: Sequence[str], passes: int = 1) -> float:
    """The limit of any reading: bytes of the shards a second, from the page cache after the first pass."""
    started, count = time.perf_counter(), 0
    for path in list(paths) * passes:
        with Path(path).open("rb", buffering=0) as file:
            while block := file.read(BLOCK):
                count += len(block)
    return count / (time.perf_counter() - started)


def rate(data: tf.data.Dataset, seconds: float, warm: int = 1) -> float:
    """Rows a second over at least that many seconds, after ``warm`` batches; begins anew where the data ends."""
    batches, rows = _forever(data), 0
    for _ in range(warm):
        next(batches)
    started = time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds or not rows:
        rows += count(next(batches))
    return rows / spent


def waiting(data: tf.data.Dataset, step: Callable[[], Any], steps: int) -> tuple[float, float]:
    """Milliseconds of waiting for a batch and of a step, means, while the input goes on beside the step."""
    batches, waits, works = _forever(data), [], []
    next(batches)
    for _ in range(steps):
        started = time.perf_counter()
        next(batches)
        came = time.perf_counter()
        step()
        waits.append(came - started)
        works.append(time.perf_counter() - came)
    return 1000 * float(np.mean(waits)), 1000 * float(np.mean(works))


def count(batch: Any) -> int:
    """Rows of a batch."""
    return int((next(iter(batch.values())) if isinstance(batch, Mapping) else batch).shape[0])


def _forever(data: Iterable[Any]) -> Iterator[Any]:
    while True:
        yield from data


def _records(split: Split) -> tf.data.Dataset:
    shards = tf.data.Dataset.from_tensor_slices(list(split.paths))
    return shards.interleave(tf.data.TFRecordDataset, cycle_length=4, num_parallel_calls=AUTO, deterministic=True)


def _feed(make: Callable[..., Any], split: Split) -> tf.data.Dataset:
    """One pass of what is endless."""
    rows, feed = make(split.paths, split.transform, split.keep, split.batch_size, split.seed)
    return feed().take(max(1, rows // split.batch_size))
