"""The Evaluator's slices without the Evaluator: which rows of a split belong to which slice."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from models.input import PARSE_BATCH, Transform

Key = tuple[tuple[str, str], ...]
TYPES = {"bytes_list": tf.string, "float_list": tf.float32, "int64_list": tf.int64}


def read(
    paths: Sequence[str], transform: Transform, keep: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A split in memory, in the order of its files: transformed features, and raw features that slices are cut by.

    Returns:
        Features ``[rows, ...]`` by name, and text ``[rows]`` by raw feature, None where a row has no value.

    Raises:
        ValueError: if a row has several values of a raw feature.
    """
    records = tf.data.TFRecordDataset(list(paths))
    raw = {name: tf.io.RaggedFeature(kind) for name, kind in types(records, names).items()}

    def parse(serialized: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        features = transform.parse(serialized)
        found = tf.io.parse_example(serialized, raw) if raw else {}
        return {name: features[name] for name in keep}, {name: _one(values) for name, values in found.items()}

    batches = list(records.batch(PARSE_BATCH).map(parse, num_parallel_calls=2).prefetch(2).as_numpy_iterator())
    features = {name: np.concatenate([batch[name] for batch, _ in batches]) for name in keep}
    rows = len(features[keep[0]])
    columns = {name: _text(name, [found[name] for _, found in batches]) for name in raw}
    return features, {name: columns.get(name, np.full(rows, None, object)) for name in names}


def names(specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The raw features that slicing specs name, sorted."""
    return sorted({name for spec in specs for name in (*spec.get("featureKeys", ()), *spec.get("featureValues", {}))})


def cut(specs: Sequence[Mapping[str, Any]], columns: Mapping[str, np.ndarray], rows: int) -> dict[Key, np.ndarray]:
    """Rows of every slice by its key, ``((feature, value), ...)`` sorted by feature; the whole split is ``()``.

    Args:
        specs: ``SlicingSpec`` messages as JSON.
        columns: Text ``[rows]`` by raw feature, None where there is none: such a row is in no slice of the feature.
        rows: How many rows the split has.

    Raises:
        ValueError: for a spec in SQL.
    """
    found: dict[Key, np.ndarray] = {}
    for spec in specs:
        if "sliceKeysSql" in spec:
            raise ValueError("Slices in SQL are the Evaluator's alone; name feature_keys or feature_values.")
        fixed, by = spec.get("featureValues", {}), names([spec])
        there = np.ones(rows, bool)
        for name in by:
            values = columns[name]
            there &= values == fixed[name] if name in fixed else np.array([one is not None for one in values], bool)
        found |= _groups(by, columns, np.flatnonzero(there))
    return found


def _groups(by: Sequence[str], columns: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[Key, np.ndarray]:
    groups: dict[Key, np.ndarray] = {(): rows}
    for name in by:
        groups = {
            (*key, (name, value)): one[columns[name][one] == value]
            for key, one in groups.items()
            for value in sorted(set(columns[name][one]))
        }
    return groups


def types(records: tf.data.Dataset, wanted: Sequence[str]) -> dict[str, tf.DType]:
    """Types of raw features, from the first records that have them; what no record has is left out."""
    found: dict[str, tf.DType] = {}
    for record in records if wanted else ():
        features = tf.train.Example.FromString(record.numpy()).features.feature
        kinds = {name: features[name].WhichOneof("kind") for name in wanted if name in features}
        found |= {name: TYPES[kind] for name, kind in kinds.items() if kind}
        if len(found) == len(wanted):
            break
    return found


def _one(values: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The first value of each row, ``[rows]``, and how many there are."""
    return values.to_tensor(shape=[None, 1])[:, 0], values.row_lengths()


def _text(name: str, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    values, counts = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    if counts.max(initial=0) > 1:
        raise ValueError(
            f"A row has {counts.max()} values of '{name}', and a feature that slices are cut by needs one."
        )
    texts = [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
    return np.array([text if count else None for text, count in zip(texts, counts, strict=True)], object)
