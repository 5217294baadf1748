"""Examples to try a model on: what they were before and after the transform, and what the SavedModel said of them.

A file of arrays, ``[samples, ...]`` each: ``raw/<feature>`` for people, ``input/<name>`` for the model and
``answer/<name>`` to compare with. Raw bytes that are no text, such as pictures, are left out.
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
    """Chooses by ``scores``, ``[rows]`` or ``[rows, classes]``, and writes.

    Args:
        serialized: ``tf.Example`` a row, the label among them.
        raw: How to parse them.
        inputs: The same rows, transformed.
        answers: What the SavedModel said of them.
    """
    rows = telling(scores.reshape(len(scores), -1))
    features = {name: _texts(value) for name, value in tf.io.parse_example(tf.gather(serialized, rows), raw).items()}
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


def telling(scores: np.ndarray) -> np.ndarray:
    """Which of the rows to take, by scores ``[rows, 1]`` or ``[rows, classes]``.

    One score: from the highest to the lowest, close together at the top, where a rare class is. Several: all along.
    """
    if scores.shape[1] > 1:
        return np.unique(np.linspace(0, len(scores) - 1, COUNT).astype(int))
    ranks = np.unique(np.geomspace(1, len(scores), COUNT).astype(int)) - 1
    return np.argsort(-scores[:, 0], kind="stable")[ranks]


def _texts(values: tf.Tensor | tf.sparse.SparseTensor) -> np.ndarray | None:
    """As an array; strings as fixed-width text, which needs no pickle, None if they are none."""
    dense = tf.sparse.to_dense(values) if isinstance(values, tf.sparse.SparseTensor) else values
    array = dense.numpy()
    if array.dtype != object:
        return array
    try:
        return np.vectorize(bytes.decode, otypes=[str])(array)
    except UnicodeDecodeError:
        return None
