"""Features in memory, ``[rows, ...]`` each: specs, selection and sampling of rows."""

from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

Rows = Mapping[str, np.ndarray]


def specs(rows: Rows) -> dict[str, tf.TensorSpec]:
    """Shapes and types of features in memory, with any number of rows."""
    return {name: tf.TensorSpec([None, *values.shape[1:]], values.dtype) for name, values in rows.items()}


def select_rows(rows: Rows, index: np.ndarray) -> dict[str, np.ndarray]:
    """Select the rows at ``index``, an array of row numbers or a boolean mask."""
    return {name: values[index] for name, values in rows.items()}


def sample(batches: Iterable[Rows], most: int, seed: int) -> dict[str, np.ndarray]:
    """Sample at most ``most`` rows of a stream uniformly, with memory for that many rows and one batch.

    Reservoir sampling (Vitter 1985): every row draws a random key, and the rows with the smallest keys stay, in the
    order of the stream.
    """
    generator = np.random.default_rng(seed)
    keys, rows = np.empty(0), None
    for batch in batches:
        drawn = generator.random(len(next(iter(batch.values()))))
        keys = np.concatenate([keys, drawn])
        rows = {n: np.concatenate([rows[n], v]) for n, v in batch.items()} if rows else dict(batch)
        if len(keys) > most:
            smallest = np.sort(np.argpartition(keys, most)[:most])
            keys, rows = keys[smallest], select_rows(rows, smallest)
    if rows is None:
        raise ValueError("There are no rows to sample: the split is empty.")
    return rows
