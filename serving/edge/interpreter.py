"""Runs a `.tflite` with LiteRT's interpreter in Python, without TensorFlow."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.edge.tensors import Tensor, fit_tensors

SIGNATURE = "dense"


class Interpreter:
    """Interpreter for one signature of a model in memory.

    Question: A22
    Answer: You need the `.tflite` file, LiteRT's runtime of a few megabytes, and the same preprocessing, best in the file.
        Every API has the same steps: load the file, create an interpreter, choose a delegate (XNNPACK, GPU, NPU), fill
        input tensors, invoke, read outputs. Python has Interpreter, C++ the C API of libLiteRt.so, Android CompiledModel.
        Other ops need Select TF Ops. Here Python answers raw rows, strings included; C++ and Java get
        transformed tensors; a test compares all.
    Evidence: tour.evidence.serving.edge_files.runtimes
    Proof: tests/serving/edge/test_edge.py::test_every_runtime_returns_equal_outputs

    Attributes:
        inputs: Input tensors of one row by name.
        outputs: Output tensors of one row by name.
        rows_per_call: Number of rows per call; 0 for any number.
    """

    def __init__(self, content: bytes, threads: int = 1, signature: str = SIGNATURE):
        from ai_edge_litert import interpreter

        lite_interpreter = interpreter.Interpreter(model_content=content, num_threads=threads)
        if signature not in lite_interpreter.get_signature_list():
            raise ValueError(f"The model has no signature '{signature}'.")
        self._run = lite_interpreter.get_signature_runner(signature)
        input_details = self._run.get_input_details()
        self.inputs = {name: _to_tensor(detail) for name, detail in input_details.items()}
        self.outputs = {name: _to_tensor(detail) for name, detail in self._run.get_output_details().items()}
        # An input of strings never has -1 for any number of rows, so that the other inputs decide.
        self.rows_per_call = max(0, min(int(detail["shape_signature"][0]) for detail in input_details.values()))

    def answer(self, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the model on inputs ``[rows, ...]``; return outputs ``[rows, ...]``.

        A model with a fixed number of rows per call runs several times.

        Raises:
            ValueError: if the inputs do not fit the model.
        """
        rows = fit_tensors(rows, self.inputs)
        count = len(next(iter(rows.values())))
        step = self.rows_per_call or max(1, count)
        if count % step:
            raise ValueError(f"The model takes {step} rows at a time, and {count} is not a multiple of it.")
        parts = [{name: _empty(tensor) for name, tensor in self.outputs.items()}]  # so that zero rows have outputs, too
        for at in range(0, count, step):
            parts.append(self._run(**{name: values[at : at + step] for name, values in rows.items()}))
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}

    def latency(self, rows: Mapping[str, np.ndarray], times: int) -> float:
        """Measure the median time of a call with the first row, in microseconds, over ``times`` calls after one warm-up."""
        first_row = {name: values[: self.rows_per_call or 1] for name, values in fit_tensors(rows, self.inputs).items()}
        seconds = []
        for _ in range(times + 1):
            started = time.perf_counter()
            self._run(**first_row)
            seconds.append(time.perf_counter() - started)
        return float(np.median(seconds[1:]) * 1e6)


def _to_tensor(detail: Mapping[str, Any]) -> Tensor:
    return Tensor(np.dtype(detail["dtype"]).name, tuple(int(size) for size in detail["shape"][1:]))


def _empty(tensor: Tensor) -> np.ndarray:
    return np.empty((0, *tensor.shape), tensor.dtype)
