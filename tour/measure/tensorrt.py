"""The export for TensorRT: TensorFlow's own converter replaces what a GPU's engines can run and keeps the rest."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

PRECISIONS = ("FP32", "FP16", "INT8")
SIGNATURE = "dense"
CALIBRATED = 256


def convert(
    path: str,
    out: str,
    inputs: Mapping[str, np.ndarray],
    precision: str = "FP16",
    batch_size: int = 64,
    converter: Callable[..., Any] = tf.experimental.tensorrt.Converter,
) -> None:
    """Writes the ``dense`` signature of a SavedModel as a SavedModel with TensorRT engines.

    Engines are built here and not at the first request, for real rows; INT8 learns its ranges from them.

    Args:
        path: The SavedModel.
        out: Folder of the converted one.
        inputs: Real rows, ``[rows, ...]`` a feature, at least ``batch_size``.
        precision: One of ``PRECISIONS``.
        batch_size: Rows that the engines are built for.
        converter: TensorFlow's converter, or what takes its place.

    Raises:
        ValueError: for another precision.
        RuntimeError: where TensorRT or a GPU is missing, saying so and what to do.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"There is no precision '{precision}'; there are {', '.join(PRECISIONS)}.")
    try:
        made = converter(
            input_saved_model_dir=path,
            input_saved_model_signature_key=SIGNATURE,
            precision_mode=precision,
            use_calibration=precision == "INT8",
        )
    except RuntimeError as error:
        raise RuntimeError(
            f"TensorRT cannot be used here: {str(error).rstrip('.')}. "
            "Convert in an image whose TensorFlow was built with TensorRT, on the GPU that serves."
        ) from None
    calibration = (
        {"calibration_input_fn": lambda: _batches(inputs, batch_size, CALIBRATED)} if precision == "INT8" else {}
    )
    made.convert(**calibration)
    made.build(lambda: _batches(inputs, batch_size, batch_size))
    made.save(out)


def _batches(inputs: Mapping[str, np.ndarray], size: int, rows: int) -> Iterator[dict[str, tf.Tensor]]:
    """Whole batches of the first ``rows`` rows, by name, as the signature takes them."""
    for start in range(0, min(rows, len(next(iter(inputs.values())))) - size + 1, size):
        yield {name: tf.constant(values[start : start + size]) for name, values in inputs.items()}
