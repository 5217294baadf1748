"""Signatures of a ``model.tflite`` beside the SavedModel, run by LiteRT in place of TensorFlow."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import ServingError
from serving.server.signature import Call, Signature

FILE = "model.tflite"
KEPT = 8


def preferred(path: Path, signatures: dict[str, Signature]) -> dict[str, Signature]:
    """The signatures, those that ``model.tflite`` has too answered by it; all as they were if there is none.

    Raises:
        ServingError: if the file cannot be read.
    """
    if not (path / FILE).is_file():
        return signatures
    content = (path / FILE).read_bytes()
    try:
        names = _interpreter(content).get_signature_list()
    except (ValueError, RuntimeError) as error:
        raise ServingError("DATA_LOSS", f"{path / FILE} cannot be read: {error}") from None
    both = {
        name: replace(one, call=_call(content, one))
        for name, one in signatures.items()
        if name in names
        and set(names[name]["inputs"]) == set(one.inputs)
        and set(names[name]["outputs"]) == set(one.outputs)
    }
    return signatures | both


def _call(content: bytes, signature: Signature) -> Call:
    """An interpreter a thread and batch size: none may be shared, and another size means to allocate anew."""
    kept = threading.local()

    def runner(rows: int) -> Any:
        runners = kept.__dict__.setdefault("runners", {})
        if rows not in runners:
            if len(runners) >= KEPT:
                runners.pop(next(iter(runners)))
            runners[rows] = _interpreter(content).get_signature_runner(signature.name)
        return runners[rows]

    def call(arrays: list[np.ndarray]) -> list[np.ndarray]:
        rows = len(arrays[0])
        if not rows:
            raise ServingError("INVALID_ARGUMENT", "The batch is empty")
        inputs = dict(zip(signature.inputs, arrays, strict=True))
        try:
            # The runner's arrays are the interpreter's own memory, which the next call overwrites.
            answers = _one_by_one(runner(1), inputs) if _fixed(runner(1)) else runner(rows)(**inputs)
        except (ValueError, RuntimeError) as error:
            raise ServingError("INVALID_ARGUMENT", str(error)) from None
        return [np.array(answers[name]) for name in signature.outputs]

    return call


def _one_by_one(run: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    rows = len(next(iter(inputs.values())))
    parts = [
        {name: np.array(one) for name, one in run(**{k: v[n : n + 1] for k, v in inputs.items()}).items()}
        for n in range(rows)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _fixed(run: Any) -> bool:
    """Whether the file was converted for one row at a time, as browsers want it."""
    return all(
        len(one["shape_signature"]) and one["shape_signature"][0] == 1 for one in run.get_input_details().values()
    )


def _interpreter(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_content=content, num_threads=1)
