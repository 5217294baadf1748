"""A `.tflite` run by LiteRT's interpreter, in Python and without TensorFlow."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.edge.tensors import Tensor, fitted

SIGNATURE = "dense"


class Interpreter:
    """One signature of a model in memory.

    Question: A22
    Answer: The `.tflite` file, LiteRT's runtime of a few megabytes, and the same preprocessing. Every API does the same:
        load the file, make an interpreter or compiled model, choose a delegate (XNNPACK for CPU, GPU, NPU), fill input
        tensors, invoke, read outputs. Python has Interpreter, C++ the C API of libLiteRt.so, Android Kotlin's or Java's
        CompiledModel from Maven. Ops outside LiteRT's need Select TF Ops or custom ones. Check outputs on each target.
    Evidence: tour.evidence.serving.edge_files.runtimes
    Proof: tests/serving/edge/test_edge.py::test_every_runtime_answers_a_model_equally

    Attributes:
        inputs: What a row has to have, by name.
        outputs: What an answer has, by name.
        fixed: How many rows one call takes; 0 for any number.
    """

    def __init__(self, content: bytes, threads: int = 1):
        from ai_edge_litert import interpreter

        made = interpreter.Interpreter(model_content=content, num_threads=threads)
        if SIGNATURE not in made.get_signature_list():
            raise ValueError(f"The model has no signature '{SIGNATURE}'.")
        self._run = made.get_signature_runner(SIGNATURE)
        given = self._run.get_input_details()
        self.inputs = {name: _tensor(detail) for name, detail in given.items()}
        self.outputs = {name: _tensor(detail) for name, detail in self._run.get_output_details().items()}
        self.fixed = max(0, int(next(iter(given.values()))["shape_signature"][0]))

    def answer(self, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs ``[rows, ...]`` for inputs ``[rows, ...]``; a model of a fixed number of rows is run several times.

        Raises:
            ValueError: for inputs that do not fit the model.
        """
        rows = fitted(rows, self.inputs)
        count = len(next(iter(rows.values())))
        step = self.fixed or max(1, count)
        if count % step:
            raise ValueError(f"The model takes {step} rows at a time, and {count} is no multiple of it.")
        parts = [{name: _none(tensor) for name, tensor in self.outputs.items()}]  # so that no rows have an answer too
        for at in range(0, count, step):
            parts.append(self._run(**{name: values[at : at + step] for name, values in rows.items()}))
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}

    def latency(self, rows: Mapping[str, np.ndarray], times: int) -> float:
        """Median microseconds of one call with the first row, over ``times`` calls and one more to warm up."""
        one = {name: values[: self.fixed or 1] for name, values in fitted(rows, self.inputs).items()}
        spent = []
        for _ in range(times + 1):
            started = time.perf_counter()
            self._run(**one)
            spent.append(time.perf_counter() - started)
        return float(np.median(spent[1:]) * 1e6)


def _tensor(detail: Mapping[str, Any]) -> Tensor:
    return Tensor(np.dtype(detail["dtype"]).name, tuple(int(size) for size in detail["shape"][1:]))


def _none(tensor: Tensor) -> np.ndarray:
    return np.empty((0, *tensor.shape), tensor.dtype)
