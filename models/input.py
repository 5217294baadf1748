"""Examples on disk to batches of transformed tensors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform.saved import saved_transform_io_v2

PARSE_BATCH = 2048
IN_MEMORY = 4 << 30
SHUFFLE = 50_000
Tensors = dict[str, tf.Tensor]


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
            Sparse and ragged tensors hold rows of different length. What has to change is a tf.Variable.
        Evidence: tour.evidence.data.example_followed
        Proof: tests/test_evidence.py::test_an_example_becomes_tensors_of_known_type_and_shape
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
    Evidence: tour.evidence.transform.tensors_and_arrays
    Proof: tests/test_evidence.py::test_tensor_and_array_agree_in_number_and_differ_in_kind
    """
    batches = list(dataset(paths, transform, keep).as_numpy_iterator())
    return {name: np.concatenate([batch[name] for batch in batches]) for name in keep}


def batches(
    paths: Sequence[str], transform: Transform, keep: Sequence[str], batch_size: int, seed: int
) -> tuple[int, tf.data.Dataset]:
    """The number of examples and an endless stream of shuffled batches.

    A split of less than ``IN_MEMORY`` bytes on disk is transformed once and kept; its batches are gathered by shuffled
    index, which is many times faster than moving rows one by one. A larger one streams through a shuffle buffer.

    Question: B22
    Answer: Beam writes TFRecord shards; tf.data interleaves several, shuffles through a bounded buffer, parses whole
        batches in parallel and prefetches, so memory depends on the buffers and not on the data. Shuffle the shards
        too, since the buffer sees a window only. Here a split that fits is kept, since gathering from memory is many
        times faster; a larger one streams.
    Evidence: tour.evidence.data.memory_of_streaming
    Proof: tests/test_evidence.py::test_streaming_ten_times_the_data_takes_no_more_memory
    """
    if sum(Path(path).stat().st_size for path in paths) > IN_MEMORY:
        return _streamed(paths, transform, keep, batch_size, seed)
    rows = {name: tf.constant(values) for name, values in load(paths, transform, keep).items()}
    count = int(next(iter(rows.values())).shape[0])
    order = tf.data.Dataset.range(count).shuffle(count, seed=seed).batch(min(batch_size, count), drop_remainder=True)
    picked = order.map(lambda index: {name: tf.gather(values, index) for name, values in rows.items()})
    return count, picked.repeat().prefetch(2)


def _streamed(
    paths: Sequence[str], transform: Transform, keep: Sequence[str], batch_size: int, seed: int
) -> tuple[int, tf.data.Dataset]:
    count = sum(int(batch.shape[0]) for batch in tf.data.TFRecordDataset(list(paths)).batch(PARSE_BATCH))
    shuffled = tf.data.Dataset.from_tensor_slices(list(paths)).shuffle(len(paths), seed=seed)
    records = shuffled.interleave(tf.data.TFRecordDataset, cycle_length=8, num_parallel_calls=2, deterministic=True)
    records = records.shuffle(SHUFFLE, seed=seed).batch(batch_size, drop_remainder=True)
    parsed = records.map(lambda one: {n: v for n, v in transform.parse(one).items() if n in keep}, num_parallel_calls=2)
    return count, parsed.repeat().prefetch(2)
