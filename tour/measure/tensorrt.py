"""Convert an export for TensorRT: TensorFlow's converter replaces subgraphs by GPU engines and keeps the rest."""

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
    """Convert the ``dense`` signature of a SavedModel to a SavedModel with TensorRT engines.

    The engines are built now, not at the first request, with real rows, which also calibrate INT8.

    Args:
        path: The SavedModel.
        out: Folder of the converted SavedModel.
        inputs: Real rows, ``[rows, ...]`` per feature, at least ``batch_size``.
        precision: One of ``PRECISIONS``.
        batch_size: Batch size that the engines are built for.
        converter: TensorFlow's converter, or a substitute in tests.

    Raises:
        ValueError: if the precision is unknown.
        RuntimeError: if TensorRT or a GPU is missing; the message says what to do.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"Unknown precision '{precision}'. Use one of: {', '.join(PRECISIONS)}.")
    try:
        conversion = converter(
            input_saved_model_dir=path,
            input_saved_model_signature_key=SIGNATURE,
            precision_mode=precision,
            use_calibration=precision == "INT8",
        )
    except RuntimeError as error:
        raise RuntimeError(
            f"TensorRT is not available: {str(error).rstrip('.')}. "
            "Convert in an image whose TensorFlow was built with TensorRT, on the GPU model that serves."
        ) from None
    calibration = (
        {"calibration_input_fn": lambda: _batches(inputs, batch_size, CALIBRATED)} if precision == "INT8" else {}
    )
    conversion.convert(**calibration)
    conversion.build(lambda: _batches(inputs, batch_size, batch_size))
    conversion.save(out)


def _batches(inputs: Mapping[str, np.ndarray], size: int, rows: int) -> Iterator[dict[str, tf.Tensor]]:
    """Yield whole batches of the first ``rows`` rows, by name, as the signature expects them."""
    for start in range(0, min(rows, len(next(iter(inputs.values())))) - size + 1, size):
        yield {name: tf.constant(values[start : start + size]) for name, values in inputs.items()}
