"""Sample rows to try an edge model on: raw features, transformed inputs, and the SavedModel's answers.

A file of arrays, ``[samples, ...]`` each: ``raw/<feature>`` to display, ``input/<name>`` for the model and
``answer/<name>`` to compare with. Raw bytes that are not text, such as images, are left out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

COUNT = 24


def write(
    path: Path,
    serialized: tf.Tensor,
    raw: Mapping[str, Any],
    inputs: Mapping[str, np.ndarray],
    answers: Mapping[str, np.ndarray],
    scores: np.ndarray,
) -> None:
    """Select rows by ``scores``, ``[rows]`` or ``[rows, classes]``, and write them.

    Args:
        serialized: A serialized ``tf.Example`` for each row, with the label.
        raw: Feature spec that parses them.
        inputs: The same rows, transformed.
        answers: The SavedModel's outputs for them.
    """
    rows = select_sample_rows(scores.reshape(len(scores), -1))
    features = {name: _to_array(value) for name, value in tf.io.parse_example(tf.gather(serialized, rows), raw).items()}
    parts = {"raw": features, "input": inputs, "answer": answers}
    np.savez_compressed(
        path,
        allow_pickle=True,
        **{
            f"{part}/{name}": values if part == "raw" else values[rows]
            for part, arrays in parts.items()
            for name, values in arrays.items()
            if values is not None
        },
    )


def select_sample_rows(scores: np.ndarray) -> np.ndarray:
    """Select row numbers by scores ``[rows, 1]`` or ``[rows, classes]``.

    With one score a row: geometrically spaced ranks from the highest, so that a rare class at the top is well covered.
    With several: evenly spaced rows.
    """
    if scores.shape[1] > 1:
        return np.unique(np.linspace(0, len(scores) - 1, COUNT).astype(int))
    ranks = np.unique(np.geomspace(1, len(scores), COUNT).astype(int)) - 1
    return np.argsort(-scores[:, 0], kind="stable")[ranks]


def _to_array(values: tf.Tensor | tf.sparse.SparseTensor) -> np.ndarray | None:
    """Convert to an array; strings become fixed-width text, which needs no pickle; None for bytes that are not text."""
    dense = tf.sparse.to_dense(values) if isinstance(values, tf.sparse.SparseTensor) else values
    array = dense.numpy()
    if array.dtype != object:
        return array
    try:
        return np.vectorize(bytes.decode, otypes=[str])(array)
    except UnicodeDecodeError:
        return None
