"""Input pipelines: from examples on disk to batches of transformed tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.saved import saved_transform_io_v2

PARSE_BATCH = 2048
IN_MEMORY = 4 << 30
SHUFFLE = 50_000
Tensors = dict[str, tf.Tensor]
# Type and shape of one row of a feature.
RowSpec = tuple[str, Sequence[int]]


@dataclass(frozen=True)
class BatchShare:
    """The part of every global batch that one input pipeline reads.

    Attributes:
        replicas: Number of replicas; a global batch is cut into as many equal slices.
        first: Index of the first replica that this pipeline feeds.
        local_replicas: Number of replicas that it feeds; each element of the dataset is one replica's slice.
    """

    replicas: int = 1
    first: int = 0
    local_replicas: int = 1


WHOLE = BatchShare()


class Feed(Protocol):
    """Creates the infinite dataset of batches from step ``first`` on, for a share of the replicas."""

    def __call__(self, first: int = 0, share: BatchShare = WHOLE) -> tf.data.Dataset: ...


class Transform:
    """The transform graph of a run, to be applied to examples and exported with a model.

    Attributes:
        raw: Feature spec that parses a serialized ``tf.Example``.
        features: Shapes and types of the transformed features.
    """

    def __init__(self, path: str):
        output = tft.TFTransformOutput(path)
        self.raw: dict[str, Any] = output.raw_feature_spec()
        self.loader = saved_transform_io_v2.SavedModelLoader(output.transform_savedmodel_dir)
        self.features = {
            name: tf.TensorSpec([None, *spec.shape], spec.dtype)
            for name, spec in output.transformed_feature_spec().items()
        }

    def apply(self, raw: Mapping[str, tf.Tensor]) -> Tensors:
        """Transform raw features, ``[batch, ...]`` each; features that need a missing input, such as a label, are left out."""
        return self.loader.apply_transform_model(dict(raw))

    def parse(self, serialized: tf.Tensor) -> Tensors:
        """Parse and transform serialized examples, ``[batch]``; parsing whole batches is many times faster than single rows.

        Question: A2
        Answer: A tensor is an immutable array of one data type with a shape; its rank is the number of axes, and the
            first axis is usually the batch. Ragged tensors hold rows of different lengths, sparse tensors store only
            the values that are present. A tensor cannot change in place: state that must change is a tf.Variable. Here
            a vector of serialized examples becomes typed features, then the dense batches that the network reads.
        Evidence: tour.evidence.data.raw_examples.raw_example_to_tensor
        Proof: tests/tour/evidence/test_claims.py::test_an_example_becomes_tensors_of_known_type_and_shape
        """
        return self.apply(tf.io.parse_example(serialized, self.raw))


def list_shards(examples: str, split: str) -> list[str]:
    """List the TFRecord shards of a split, sorted, so that the order is the same everywhere."""
    return sorted(str(path) for path in Path(examples, f"Split-{split}").iterdir())


def dataset(paths: Sequence[str], transform: Transform, keep: Sequence[str]) -> tf.data.Dataset:
    """Dataset of transformed batches of ``PARSE_BATCH`` rows with the features named in ``keep``."""
    records = tf.data.Dataset.from_tensor_slices(list(paths)).interleave(
        lambda path: tf.data.TFRecordDataset(path, buffer_size=1 << 20),
        cycle_length=4,
        num_parallel_calls=2,
        deterministic=True,
    )

    def read(serialized: tf.Tensor) -> Tensors:
        features = transform.parse(serialized)
        return {name: features[name] for name in keep}

    return records.batch(PARSE_BATCH).map(read, num_parallel_calls=2, deterministic=True).prefetch(2)


def load(paths: Sequence[str], transform: Transform, keep: Sequence[str]) -> dict[str, np.ndarray]:
    """Load a whole split into memory, ``[rows, ...]`` for each feature; for splits that fit, such as validation.

    Question: B5
    Answer: Both are typed arrays of any rank, but they differ in what you can do with them. A tensor is immutable, can
        live on a GPU, is recorded by a gradient tape and can be symbolic in a traced graph. A NumPy array is mutable,
        lives in host memory and has no gradient. Converting on the CPU may share memory; from a GPU it copies. The
        trap: NumPy inside a tf.function runs once, while tracing, and leaves a constant.
    Evidence: tour.evidence.data.transform_graph.tensors_and_arrays
    Proof: tests/tour/evidence/test_claims.py::test_tensor_and_array_agree_in_number_and_differ_in_kind
    """
    batches = list(dataset(paths, transform, keep).as_numpy_iterator())
    return {name: np.concatenate([batch[name] for batch in batches]) for name in keep}


def fits_in_memory(paths: Sequence[str]) -> bool:
    """Whether a split is at most ``IN_MEMORY`` bytes on disk, so that it is transformed once and kept in memory."""
    return sum(Path(path).stat().st_size for path in paths) <= IN_MEMORY


def batches(
    paths: Sequence[str], transform: Transform, keep: Sequence[str], batch_size: int, seed: int
) -> tuple[int, Feed]:
    """Return the number of examples and a feed of shuffled batches.

    A split that fits in memory is transformed once; its batches are gathered by shuffled index, which is many times
    faster than moving rows one by one. A larger split streams through a shuffle buffer.

    Question: B22
    Answer: Stream it. Beam writes TFRecord shards; tf.data interleaves several of them, shuffles through a bounded
        buffer, parses whole batches in parallel and prefetches, so memory depends on the buffers and not on the data.
        The trap is that the buffer only shuffles a window, so shuffle the shards too. Here a split that fits is held in
        memory, because gathering batches from memory is many times faster; a larger split streams.
    Evidence: tour.evidence.data.raw_examples.memory_of_streaming
    Proof: tests/tour/evidence/test_claims.py::test_streaming_ten_times_the_data_takes_no_more_memory
    """
    if not fits_in_memory(paths):
        return feed_from_files(paths, transform, keep, batch_size, seed)
    return feed_from_memory(load(paths, transform, keep), batch_size, seed)


def feed_from_memory(rows: Mapping[str, np.ndarray], batch_size: int, seed: int) -> tuple[int, Feed]:
    """As :func:`batches`, from arrays in memory."""
    count = len(next(iter(rows.values())))
    tensors = {name: tf.constant(values) for name, values in rows.items()}

    def feed(first: int = 0, share: BatchShare = WHOLE) -> tf.data.Dataset:
        return _gather_batches(tf.data.Dataset.from_tensors(tensors), count, batch_size, seed, first, share)

    return count, feed


def feed_from_store(folder: Path, spec: Mapping[str, RowSpec], count: int, batch_size: int, seed: int) -> Feed:
    """As :func:`feed_from_memory`, from the files that :func:`store` wrote, read inside the TensorFlow graph.

    Therefore the pipeline can be built on a worker that only runs graphs, such as one of a parameter-server cluster.
    """

    def read(_: tf.Tensor) -> Tensors:
        rows = {}
        for name, (dtype, shape) in spec.items():
            rows[name] = tf.io.decode_raw(tf.io.read_file(str(folder / name)), tf.as_dtype(dtype))
            rows[name] = tf.reshape(rows[name], [count, *shape])
        return rows

    def feed(first: int = 0, share: BatchShare = WHOLE) -> tf.data.Dataset:
        return _gather_batches(tf.data.Dataset.from_tensors(0).map(read), count, batch_size, seed, first, share)

    return feed


def store(rows: Mapping[str, np.ndarray], folder: Path) -> dict[str, RowSpec]:
    """Write a file of raw bytes for each feature; return type and shape of a row by feature."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in rows.items():
        values.tofile(folder / name)
    return {name: (values.dtype.name, list(values.shape[1:])) for name, values in rows.items()}


def fetch(folder: Path, spec: Mapping[str, tuple[Any, ...]], count: int) -> dict[str, np.ndarray]:
    """Read the rows that :func:`store` wrote."""
    return {name: np.fromfile(folder / name, dtype).reshape(count, *shape) for name, (dtype, shape) in spec.items()}


def _gather_batches(
    source: tf.data.Dataset, count: int, batch_size: int, seed: int, first: int, share: BatchShare
) -> tf.data.Dataset:
    """Gather batches by index; an epoch's order depends only on seed and epoch, so a stream can start at any step."""
    size = min(batch_size, count)
    steps = count // size
    if size % share.replicas:
        raise ValueError(f"A batch of {size} cannot be cut into {share.replicas} equal slices; change batch_size.")

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        key = tf.stack([tf.constant(seed, tf.int64), number])
        order = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), key)
        slices = tf.reshape(order[: steps * size], [steps, share.replicas, size // share.replicas])
        return tf.data.Dataset.from_tensor_slices(slices[:, share.first : share.first + share.local_replicas])

    def gather(rows: Tensors) -> tf.data.Dataset:
        order = tf.data.Dataset.counter(tf.constant(first // steps, tf.int64)).flat_map(epoch).skip(first % steps)
        return order.unbatch().map(
            lambda index: {name: tf.gather(values, index) for name, values in rows.items()},
            num_parallel_calls=2,
            deterministic=True,
        )

    return source.flat_map(gather).prefetch(4)


def feed_from_files(
    paths: Sequence[str], transform: Transform, keep: Sequence[str], batch_size: int, seed: int
) -> tuple[int, Feed]:
    """As :func:`batches`, with bounded memory: shuffles the shards and a buffer of records.

    Question: A6
    Answer: tf.data describes input as a pipeline of datasets that C++ threads run in parallel to the training step: it
        interleaves shards, shuffles, parses, batches and prefetches. It matters because an accelerator idles while it
        waits for input. First check whether the step waits at all, by comparing with a constant batch. Here parsing one
        record at a time starves the step; parsing whole batches hardly makes it wait.
    Evidence: tour.evidence.data.input_speed.reading_speeds
    Proof: tests/tour/evidence/test_input_speed.py::test_a_slow_input_is_seen_as_waiting
    """
    count = sum(int(batch.shape[0]) for batch in tf.data.TFRecordDataset(list(paths)).batch(PARSE_BATCH))

    def feed(first: int = 0, share: BatchShare = WHOLE) -> tf.data.Dataset:
        shuffled = tf.data.Dataset.from_tensor_slices(list(paths)).shuffle(len(paths), seed=seed)
        records = shuffled.interleave(tf.data.TFRecordDataset, cycle_length=8, num_parallel_calls=2, deterministic=True)
        size = min(batch_size, count) // share.replicas
        slices = records.shuffle(SHUFFLE, seed=seed).batch(size, drop_remainder=True).repeat()
        if share.replicas > 1:
            slices = slices.batch(share.replicas, drop_remainder=True)
            slices = slices.map(lambda batch: batch[share.first : share.first + share.local_replicas]).unbatch()
        slices = slices.skip(first * share.local_replicas)
        parsed = slices.map(
            lambda serialized: {name: value for name, value in transform.parse(serialized).items() if name in keep},
            num_parallel_calls=2,
            deterministic=True,
        )
        return parsed.prefetch(2)

    return count, feed
