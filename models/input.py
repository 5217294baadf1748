"""Examples on disk to batches of transformed tensors."""

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
# Type and shape of a row of one feature.
RowSpec = tuple[str, Sequence[int]]


@dataclass(frozen=True)
class Share:
    """What one input pipeline reads of every global batch.

    Attributes:
        replicas: Replicas among which a global batch is cut into equal slices.
        first: The first of them that this pipeline feeds.
        mine: How many it feeds; each element of the dataset is one replica's slice.
    """

    replicas: int = 1
    first: int = 0
    mine: int = 1


WHOLE = Share()


class Feed(Protocol):
    """Makes the endless stream of batches from step ``first`` on, for a share of the replicas."""

    def __call__(self, first: int = 0, share: Share = WHOLE) -> tf.data.Dataset: ...


class Transform:
    """The transform graph of a run, ready to be applied and to be exported with a model.

    Attributes:
        raw: How to parse a serialized ``tf.Example``.
        features: Shapes and types of what comes out.
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
        """Raw features, ``[batch, ...]`` each, through the graph; what is missing (a label, say) is left out."""
        return self.loader.apply_transform_model(dict(raw))

    def parse(self, serialized: tf.Tensor) -> Tensors:
        """Serialized examples, ``[batch]``, to transformed features: parsing a batch at once is many times faster.

        Question: A2
        Answer: An immutable array of one type with a shape; its rank is the number of axes. Here a vector of serialized
            examples becomes typed features, then the dense batches that the network reads; the first axis is the batch.
            Ragged tensors hold rows of different length, sparse ones only what is there. What has to change is a
            tf.Variable.
        Evidence: tour.evidence.data.raw_examples.example_followed
        Proof: tests/tour/evidence/test_claims.py::test_an_example_becomes_tensors_of_known_type_and_shape
        """
        return self.apply(tf.io.parse_example(serialized, self.raw))


def files(examples: str, split: str) -> list[str]:
    """The TFRecord shards of a split, sorted so that the order is the same everywhere."""
    return sorted(str(path) for path in Path(examples, f"Split-{split}").iterdir())


def dataset(paths: Sequence[str], transform: Transform, keep: Sequence[str]) -> tf.data.Dataset:
    """Transformed batches of ``PARSE_BATCH`` rows with the features named in ``keep``."""
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
    """A whole split in memory, ``[rows, ...]`` a feature: for what is known to fit, such as a validation split.

    Question: B5
    Answer: Both are typed arrays of any rank. A tensor is immutable, can lie on a GPU, is recorded by a gradient tape
        and can be a symbol in a traced graph; an array can be changed, lies in host memory and knows no gradient. On
        the CPU a conversion can share memory; from a GPU it copies. NumPy inside a tf.function runs once, while
        tracing, and leaves constants.
    Evidence: tour.evidence.data.transform_graph.tensors_and_arrays
    Proof: tests/tour/evidence/test_claims.py::test_tensor_and_array_agree_in_number_and_differ_in_kind
    """
    batches = list(dataset(paths, transform, keep).as_numpy_iterator())
    return {name: np.concatenate([batch[name] for batch in batches]) for name in keep}


def fits(paths: Sequence[str]) -> bool:
    """Whether a split is small enough, ``IN_MEMORY`` bytes on disk, to be transformed once and kept."""
    return sum(Path(path).stat().st_size for path in paths) <= IN_MEMORY


def batches(
    paths: Sequence[str], transform: Transform, keep: Sequence[str], batch_size: int, seed: int
) -> tuple[int, Feed]:
    """The number of examples and a feed of shuffled batches.

    A split that fits is transformed once and kept; its batches are gathered by shuffled index, which is many times
    faster than moving rows one by one. A larger one streams through a shuffle buffer.

    Question: B22
    Answer: Beam writes TFRecord shards; tf.data interleaves several, shuffles through a bounded buffer, parses whole
        batches in parallel and prefetches, so memory depends on the buffers and not on the data. Shuffle the shards
        too, since the buffer sees a window only. Here a split that fits is kept, since gathering from memory is many
        times faster; a larger one streams.
    Evidence: tour.evidence.data.raw_examples.memory_of_streaming
    Proof: tests/tour/evidence/test_claims.py::test_streaming_ten_times_the_data_takes_no_more_memory
    """
    if not fits(paths):
        return streamed(paths, transform, keep, batch_size, seed)
    return kept(load(paths, transform, keep), batch_size, seed)


def kept(rows: Mapping[str, np.ndarray], batch_size: int, seed: int) -> tuple[int, Feed]:
    """As :func:`batches`, of arrays in memory."""
    count = len(next(iter(rows.values())))
    tensors = {name: tf.constant(values) for name, values in rows.items()}

    def feed(first: int = 0, share: Share = WHOLE) -> tf.data.Dataset:
        return _gathered(tf.data.Dataset.from_tensors(tensors), count, batch_size, seed, first, share)

    return count, feed


def stored(folder: Path, spec: Mapping[str, RowSpec], count: int, batch_size: int, seed: int) -> Feed:
    """As :func:`kept`, of the files that :func:`store` wrote, read inside the TensorFlow graph.

    So the pipeline can be built on a worker that runs graphs only, as those of a parameter server do.
    """

    def read(_: tf.Tensor) -> Tensors:
        rows = {}
        for name, (dtype, shape) in spec.items():
            rows[name] = tf.io.decode_raw(tf.io.read_file(str(folder / name)), tf.as_dtype(dtype))
            rows[name] = tf.reshape(rows[name], [count, *shape])
        return rows

    def feed(first: int = 0, share: Share = WHOLE) -> tf.data.Dataset:
        return _gathered(tf.data.Dataset.from_tensors(0).map(read), count, batch_size, seed, first, share)

    return feed


def store(rows: Mapping[str, np.ndarray], folder: Path) -> dict[str, RowSpec]:
    """Writes a file of raw bytes a feature; returns type and shape of a row by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in rows.items():
        values.tofile(folder / name)
    return {name: (values.dtype.name, list(values.shape[1:])) for name, values in rows.items()}


def fetch(folder: Path, spec: Mapping[str, tuple[Any, ...]], count: int) -> dict[str, np.ndarray]:
    """The reverse of :func:`store`."""
    return {name: np.fromfile(folder / name, dtype).reshape(count, *shape) for name, (dtype, shape) in spec.items()}


def _gathered(
    source: tf.data.Dataset, count: int, batch_size: int, seed: int, first: int, share: Share
) -> tf.data.Dataset:
    """Batches by index. Each epoch's order follows from seed and epoch alone, so a stream can begin at any step."""
    size = min(batch_size, count)
    steps = count // size
    if size % share.replicas:
        raise ValueError(f"A batch of {size} cannot be cut into {share.replicas} equal slices; change batch_size.")

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        key = tf.stack([tf.constant(seed, tf.int64), number])
        order = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), key)
        slices = tf.reshape(order[: steps * size], [steps, share.replicas, size // share.replicas])
        return tf.data.Dataset.from_tensor_slices(slices[:, share.first : share.first + share.mine])

    def gathered(rows: Tensors) -> tf.data.Dataset:
        order = tf.data.Dataset.counter(tf.constant(first // steps, tf.int64)).flat_map(epoch).skip(first % steps)
        return order.unbatch().map(
            lambda index: {name: tf.gather(values, index) for name, values in rows.items()},
            num_parallel_calls=2,
            deterministic=True,
        )

    return source.flat_map(gathered).prefetch(4)


def streamed(
    paths: Sequence[str], transform: Transform, keep: Sequence[str], batch_size: int, seed: int
) -> tuple[int, Feed]:
    """As :func:`batches`, in memory that does not grow with the data: shards and a buffer of records are shuffled.

    Question: A6
    Answer: tf.data describes input as a pipeline of datasets, run by C++ threads beside the training step: it reads shards in
        turn, shuffles, parses, batches and prefetches. It matters since an accelerator waits for whoever feeds it. First ask
        whether the step waits at all: compare it with a constant batch. Here one record at a time starves it, and whole
        batches parsed at once hardly let it wait.
    Evidence: tour.evidence.data.input_speed.speeds
    Proof: tests/tour/evidence/test_input_speed.py::test_a_slow_input_is_seen_as_waiting
    """
    count = sum(int(batch.shape[0]) for batch in tf.data.TFRecordDataset(list(paths)).batch(PARSE_BATCH))

    def feed(first: int = 0, share: Share = WHOLE) -> tf.data.Dataset:
        shuffled = tf.data.Dataset.from_tensor_slices(list(paths)).shuffle(len(paths), seed=seed)
        records = shuffled.interleave(tf.data.TFRecordDataset, cycle_length=8, num_parallel_calls=2, deterministic=True)
        size = min(batch_size, count) // share.replicas
        slices = records.shuffle(SHUFFLE, seed=seed).batch(size, drop_remainder=True).repeat()
        if share.replicas > 1:
            slices = slices.batch(share.replicas, drop_remainder=True)
            slices = slices.map(lambda one: one[share.first : share.first + share.mine]).unbatch()
        slices = slices.skip(first * share.mine)
        parsed = slices.map(
            lambda one: {name: value for name, value in transform.parse(one).items() if name in keep},
            num_parallel_calls=2,
            deterministic=True,
        )
        return parsed.prefetch(2)

    return count, feed
