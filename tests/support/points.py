"""Random points of two classes."""

import numpy as np


def draw_points(rows: int, seed: int) -> dict[str, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(rows, 2)).astype(np.float32)
    return {"scaled": x, "above": (x.sum(axis=1, keepdims=True) > 0).astype(np.int64)}
