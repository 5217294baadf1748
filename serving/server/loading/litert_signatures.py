"""Runs the signatures of a ``model.tflite`` in the SavedModel's folder with LiteRT instead of TensorFlow."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from serving.server.signature import Call, Signature
from serving.status_errors import ServingError

FILE = "model.tflite"
MAX_RUNNERS = 8  # interpreters per thread and signature, one per batch size


def use_litert_signatures(path: Path, signatures: dict[str, Signature]) -> dict[str, Signature]:
    """Return the signatures with LiteRT calls for those that ``model.tflite`` also has; unchanged without that file.

    Raises:
        ServingError: DATA_LOSS if the file cannot be read.
    """
    if not (path / FILE).is_file():
        return signatures
    content = (path / FILE).read_bytes()
    try:
        names = _create_interpreter(content).get_signature_list()
    except (ValueError, RuntimeError) as error:
        raise ServingError("DATA_LOSS", f"{path / FILE} cannot be read: {error}") from None
    replaced = {
        name: replace(signature, call=_create_call(content, signature))
        for name, signature in signatures.items()
        if name in names
        and set(names[name]["inputs"]) == set(signature.inputs)
        and set(names[name]["outputs"]) == set(signature.outputs)
    }
    return signatures | replaced


def _create_call(content: bytes, signature: Signature) -> Call:
    """Create a call with one interpreter per thread and batch size.

    Threads cannot share an interpreter, and a change of the batch size reallocates its tensors.
    """
    thread_local = threading.local()

    def runner(rows: int) -> Any:
        runners = thread_local.__dict__.setdefault("runners", {})
        if rows not in runners:
            if len(runners) >= MAX_RUNNERS:
                runners.pop(next(iter(runners)))
            runners[rows] = _create_interpreter(content).get_signature_runner(signature.name)
        return runners[rows]

    def call(arrays: list[np.ndarray]) -> list[np.ndarray]:
        rows = len(arrays[0])
        if not rows:
            raise ServingError("INVALID_ARGUMENT", "The batch is empty")
        inputs = dict(zip(signature.inputs, arrays, strict=True))
        try:
            # The runner returns views of the interpreter's memory, which the next call overwrites.
            outputs = _run_rows_separately(runner(1), inputs) if _takes_one_row(runner(1)) else runner(rows)(**inputs)
        except (ValueError, RuntimeError) as error:
            raise ServingError("INVALID_ARGUMENT", str(error)) from None
        return [np.array(outputs[name]) for name in signature.outputs]

    return call


def _run_rows_separately(runner: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    rows = len(next(iter(inputs.values())))
    parts = [
        {name: np.array(output) for name, output in runner(**{k: v[n : n + 1] for k, v in inputs.items()}).items()}
        for n in range(rows)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _takes_one_row(runner: Any) -> bool:
    """Whether the model was converted for one row at a time, as browsers need it."""
    return all(
        len(detail["shape_signature"]) and detail["shape_signature"][0] == 1
        for detail in runner.get_input_details().values()
    )


def _create_interpreter(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_content=content, num_threads=1)
