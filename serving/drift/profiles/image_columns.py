"""Pictures as columns: what the pixels look like, and what the model made of them."""

from collections.abc import Sequence

import numpy as np
import polars as pl

TINY = 1e-12
# What is computed of a row, here or as its only score, and sent by nobody, with the greatest value that it can have; the least
# is 0. Beyond its usual range it tells of drift; only beyond the possible one of a fault of the data, such as pixels in 0..255.
DERIVED = {
    "score": 1.0,
    "confidence": 1.0,
    "entropy": np.inf,
    "brightness": 1.0,
    "contrast": 0.5,
    "roughness": np.inf,
}


def columns(pixels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> pl.DataFrame:
    """Pixel statistics, softmax outputs and predicted classes; each finds what the others do not.

    Args:
        pixels: ``[n, height, width, channels]`` in 0..1.
        probabilities: ``[n, classes]``, adding up to 1.
        classes: Names of the classes.

    Returns:
        ``brightness``, ``contrast``, ``roughness``, ``confidence``, ``entropy`` and ``predicted``, ``[n]`` each.
    """
    return statistics(pixels).hstack(answers(probabilities, classes))


def answers(probabilities: np.ndarray, classes: Sequence[str]) -> pl.DataFrame:
    """``confidence``, ``entropy`` and ``predicted`` of softmax outputs ``[n, classes]``."""
    held = np.asarray(probabilities, np.float64)
    names = np.array(list(classes), dtype=object)[held.argmax(axis=1)]
    return pl.DataFrame(
        {
            "confidence": held.max(axis=1),
            "entropy": -(held * np.log(np.maximum(held, TINY))).sum(axis=1),
            "predicted": pl.Series([str(name) for name in names], dtype=pl.String),
        }
    )


def statistics(pixels: np.ndarray) -> pl.DataFrame:
    """``brightness`` (mean), ``contrast`` (deviation) and ``roughness`` of ``[n, height, width, channels]``.

    Roughness is the mean square of second differences, along rows and columns: noise that nobody sees raises it, since
    pictures are smooth.
    """
    held = np.asarray(pixels, np.float64)
    flat = held.reshape(len(held), -1)
    bends = [np.diff(held, n=2, axis=axis).reshape(len(held), -1) for axis in (1, 2)]
    rough = np.sqrt(sum((bend**2).mean(axis=1) if bend.shape[1] else np.zeros(len(held)) for bend in bends) + TINY)
    return pl.DataFrame({"brightness": flat.mean(axis=1), "contrast": flat.std(axis=1), "roughness": rough})
