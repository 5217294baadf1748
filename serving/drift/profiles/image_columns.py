"""Columns derived from images: pixel statistics and the model's outputs."""

from collections.abc import Sequence

import numpy as np
import polars as pl

EPSILON = 1e-12
# Computed columns, and the largest value that each can have; the smallest is 0. A value beyond the reference's range is drift;
# only a value beyond the possible range is a data fault, such as pixels in 0..255.
COMPUTED_MAXIMA = {
    "score": 1.0,
    "confidence": 1.0,
    "entropy": np.inf,
    "brightness": 1.0,
    "contrast": 0.5,
    "roughness": np.inf,
}


def columns(pixels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> pl.DataFrame:
    """Pixel statistics, softmax outputs and predicted classes; each detects drift that the others miss.

    Args:
        pixels: ``[n, height, width, channels]`` in 0..1.
        probabilities: ``[n, classes]``, adding up to 1.
        classes: Names of the classes.

    Returns:
        ``brightness``, ``contrast``, ``roughness``, ``confidence``, ``entropy`` and ``predicted``, ``[n]`` each.
    """
    return pixel_statistics(pixels).hstack(output_columns(probabilities, classes))


def output_columns(probabilities: np.ndarray, classes: Sequence[str]) -> pl.DataFrame:
    """``confidence``, ``entropy`` and ``predicted`` of softmax outputs ``[n, classes]``."""
    outputs = np.asarray(probabilities, np.float64)
    names = np.array(list(classes), dtype=object)[outputs.argmax(axis=1)]
    return pl.DataFrame(
        {
            "confidence": outputs.max(axis=1),
            "entropy": -(outputs * np.log(np.maximum(outputs, EPSILON))).sum(axis=1),
            "predicted": pl.Series([str(name) for name in names], dtype=pl.String),
        }
    )


def pixel_statistics(pixels: np.ndarray) -> pl.DataFrame:
    """``brightness`` (mean), ``contrast`` (standard deviation) and ``roughness`` of ``[n, height, width, channels]``.

    Roughness is the root mean square of second differences along rows and columns. Natural images are smooth, so that
    even invisible noise raises it.
    """
    images = np.asarray(pixels, np.float64)
    flat = images.reshape(len(images), -1)
    second_differences = [np.diff(images, n=2, axis=axis).reshape(len(images), -1) for axis in (1, 2)]
    roughness = np.sqrt(
        sum(
            (differences**2).mean(axis=1) if differences.shape[1] else np.zeros(len(images))
            for differences in second_differences
        )
        + EPSILON
    )
    return pl.DataFrame({"brightness": flat.mean(axis=1), "contrast": flat.std(axis=1), "roughness": roughness})
