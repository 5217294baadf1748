"""The Evaluator's slices, computed without it: the rows of a split that belong to each slice."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from models.input import PARSE_BATCH, Transform

Key = tuple[tuple[str, str], ...]
TYPES = {"bytes_list": tf.string, "float_list": tf.float32, "int64_list": tf.int64}


def read_split(
    paths: Sequence[str], transform: Transform, keep: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Load a split in the order of its files: transformed features, and the raw features that define slices.

    Returns:
        Features ``[rows, ...]`` by name, and text ``[rows]`` by raw feature, None where a row has no value.

    Raises:
        ValueError: if a row has several values of a raw feature.
    """
    records = tf.data.TFRecordDataset(list(paths))
    raw = {name: tf.io.RaggedFeature(dtype) for name, dtype in infer_types(records, names).items()}

    def parse(serialized: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        features = transform.parse(serialized)
        raw_values = tf.io.parse_example(serialized, raw) if raw else {}
        return {name: features[name] for name in keep}, {
            name: _first_value(values) for name, values in raw_values.items()
        }

    batches = list(records.batch(PARSE_BATCH).map(parse, num_parallel_calls=2).prefetch(2).as_numpy_iterator())
    features = {name: np.concatenate([batch[name] for batch, _ in batches]) for name in keep}
    rows = len(features[keep[0]])
    columns = {name: _to_text(name, [raw_values[name] for _, raw_values in batches]) for name in raw}
    return features, {name: columns.get(name, np.full(rows, None, object)) for name in names}


def list_features(specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The raw features that the slicing specs use, sorted."""
    return sorted({name for spec in specs for name in (*spec.get("featureKeys", ()), *spec.get("featureValues", {}))})


def find_slices(
    specs: Sequence[Mapping[str, Any]], columns: Mapping[str, np.ndarray], rows: int
) -> dict[Key, np.ndarray]:
    """Return the rows of every slice by its key, ``((feature, value), ...)`` sorted by feature; ``()`` is the whole split.

    Args:
        specs: ``SlicingSpec`` messages as JSON.
        columns: Text ``[rows]`` by raw feature; a row with None is in no slice of that feature.
        rows: Number of rows of the split.

    Raises:
        ValueError: for a spec in SQL.
    """
    slices: dict[Key, np.ndarray] = {}
    for spec in specs:
        if "sliceKeysSql" in spec:
            raise ValueError("Slices in SQL are supported only by the Evaluator; use feature_keys or feature_values.")
        fixed, by = spec.get("featureValues", {}), list_features([spec])
        selected = np.ones(rows, bool)
        for name in by:
            values = columns[name]
            selected &= (
                values == fixed[name] if name in fixed else np.array([value is not None for value in values], bool)
            )
        slices |= _group_rows(by, columns, np.flatnonzero(selected))
    return slices


def _group_rows(by: Sequence[str], columns: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[Key, np.ndarray]:
    groups: dict[Key, np.ndarray] = {(): rows}
    for name in by:
        groups = {
            (*key, (name, value)): members[columns[name][members] == value]
            for key, members in groups.items()
            for value in sorted(set(columns[name][members]))
        }
    return groups


def infer_types(records: tf.data.Dataset, names: Sequence[str]) -> dict[str, tf.DType]:
    """Types of raw features, from the first records that have them; features that no record has are left out."""
    dtypes: dict[str, tf.DType] = {}
    for record in records if names else ():
        features = tf.train.Example.FromString(record.numpy()).features.feature
        kinds = {name: features[name].WhichOneof("kind") for name in names if name in features}
        dtypes |= {name: TYPES[kind] for name, kind in kinds.items() if kind}
        if len(dtypes) == len(names):
            break
    return dtypes


def _first_value(values: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The first value of each row, ``[rows]``, and the number of values."""
    return values.to_tensor(shape=[None, 1])[:, 0], values.row_lengths()


def _to_text(name: str, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    values, counts = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    if counts.max(initial=0) > 1:
        raise ValueError(
            f"A row has {counts.max()} values of '{name}'; a feature that defines slices must have at most one."
        )
    texts = [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
    return np.array([text if count else None for text, count in zip(texts, counts, strict=True)], object)
