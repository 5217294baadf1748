"""TensorRT: arguments of the converter, and the errors without TensorRT."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.compiler.tensorrt import trt_convert

from tour.measure import tensorrt

INPUTS = {"x": np.arange(600, dtype=np.float32).reshape(300, 2)}


class Converter:
    """Replacement for TensorFlow's converter that records its arguments."""

    def __init__(self, **arguments: Any):
        self.arguments, self.batches, self.calibrated, self.saved = arguments, [], [], ""
        type(self).last = self

    def convert(self, calibration_input_fn: Any = None) -> None:
        self.calibrated = [batch["x"].shape[0] for batch in calibration_input_fn()] if calibration_input_fn else []

    def build(self, input_fn: Any) -> None:
        self.batches = [batch["x"].numpy() for batch in input_fn()]

    def save(self, out: str) -> None:
        self.saved = out


@pytest.mark.parametrize(("precision", "calibrated"), [("FP32", []), ("FP16", []), ("INT8", [64] * 4)])
def test_the_dense_signature_is_converted_and_built_for_real_rows(precision: str, calibrated: list[int]) -> None:
    tensorrt.convert("/model", "/out", INPUTS, precision, converter=Converter)
    converter = Converter.last
    assert converter.arguments == {
        "input_saved_model_dir": "/model",
        "input_saved_model_signature_key": "dense",
        "precision_mode": precision,
        "use_calibration": precision == "INT8",
    }
    assert converter.calibrated == calibrated and converter.saved == "/out"
    (batch,) = converter.batches
    assert np.array_equal(batch, INPUTS["x"][:64])


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="Unknown precision 'FP8'. Use one of: FP32, FP16, INT8"):
        tensorrt.convert("/model", "/out", INPUTS, "FP8", converter=Converter)


@pytest.mark.parametrize("precision", tensorrt.PRECISIONS)
def test_missing_tensorrt_raises_an_error_with_the_reason(tmp_path: Path, precision: str) -> None:
    """Uses TensorFlow's converter; with TensorRT, the error is that of the missing model."""
    built = trt_convert._pywrap_py_utils.is_tensorrt_enabled()
    with pytest.raises((RuntimeError, OSError)) as caught:
        tensorrt.convert(str(tmp_path / "none"), str(tmp_path / "out"), INPUTS, precision)
    assert built or str(caught.value).startswith("TensorRT is not available: Tensorflow has not been built with")
    assert tf.experimental.tensorrt.Converter is tensorrt.convert.__defaults__[-1]
