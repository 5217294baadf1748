"""Features in memory, ``[rows, ...]`` each: taking some of the rows."""

from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

Rows = Mapping[str, np.ndarray]


def specs(rows: Rows) -> dict[str, tf.TensorSpec]:
    """Shapes and types of features in memory, the first axis free."""
    return {name: tf.TensorSpec([None, *values.shape[1:]], values.dtype) for name, values in rows.items()}


def picked(rows: Rows, index: np.ndarray) -> dict[str, np.ndarray]:
    """The rows at ``index``, an array of numbers or of truth values."""
    return {name: values[index] for name, values in rows.items()}


def sample(batches: Iterable[Rows], most: int, seed: int) -> dict[str, np.ndarray]:
    """At most so many rows of a stream, each equally likely, in memory of that many rows and one batch.

    Every row draws a key and the smallest keys stay (Vitter 1985 calls the family reservoir sampling). The order of the
    stream is kept.
    """
    random = np.random.default_rng(seed)
    keys, kept = np.empty(0), None
    for batch in batches:
        drawn = random.random(len(next(iter(batch.values()))))
        keys = np.concatenate([keys, drawn])
        kept = {n: np.concatenate([kept[n], v]) for n, v in batch.items()} if kept else dict(batch)
        if len(keys) > most:
            stay = np.sort(np.argpartition(keys, most)[:most])
            keys, kept = keys[stay], picked(kept, stay)
    if kept is None:
        raise ValueError("There are no rows to take a sample of: the split is empty.")
    return kept
