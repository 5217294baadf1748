"""Replaces the calls of signatures by LiteRT, which answers a small batch in a small part of TensorFlow's time.

A version can have two files for it. ``model_raw.tflite`` answers ``raw``: by default, where the version's gate has passed it
(see :mod:`serving.edge.raw_model`), as it is float32 and gives the SavedModel's answers. ``model.tflite`` answers the
signatures that it contains only if the server was told to prefer it, as it may be quantised. The SavedModel answers
everything else.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from serving.edge import raw_model
from serving.server.loading.interpreter_pool import InterpreterPool
from serving.server.signature import Call, Signature, TensorSpec
from serving.status_errors import ServingError

FILE = "model.tflite"
log = logging.getLogger(__name__)


def use_litert(path: Path, signatures: dict[str, Signature], prefer: bool, raw: bool) -> dict[str, Signature]:
    """Return a version's signatures with LiteRT calls by the rule above.

    Args:
        path: Folder of the version.
        signatures: The SavedModel's signatures by name.
        prefer: Whether ``model.tflite`` answers the signatures that it contains.
        raw: Whether ``model_raw.tflite`` answers ``raw`` if the gate has passed it.

    Raises:
        ServingError: DATA_LOSS if ``model.tflite`` is preferred and cannot be read.
    """
    if prefer and (path / FILE).is_file():
        try:
            signatures = replace_calls(signatures, (path / FILE).read_bytes())
        except (ValueError, RuntimeError) as error:
            raise ServingError("DATA_LOSS", f"{path / FILE} cannot be read: {error}") from None
    if raw and (content := raw_model.read_passed(path)):
        try:
            signatures = replace_calls(signatures, content)
        except (ValueError, RuntimeError) as error:
            log.warning("%s is not used, the SavedModel answers raw: %s", path / raw_model.FILE, error)
    return signatures


def replace_calls(signatures: dict[str, Signature], content: bytes) -> dict[str, Signature]:
    """Return the signatures with LiteRT calls for those that a ``.tflite`` has with the same tensors.

    Raises:
        ValueError: if the file cannot be read.
        RuntimeError: if LiteRT cannot run it.
    """
    from ai_edge_litert.interpreter import Interpreter

    names = Interpreter(model_content=content, num_threads=1).get_signature_list()
    replaced = {}
    for name, signature in signatures.items():
        if signature.batched and name in names and _has_names(names[name], signature):
            pool = InterpreterPool(content, name, list(signature.inputs), list(signature.outputs))
            if _fits(signature.inputs, pool.inputs) and _fits(signature.outputs, pool.outputs):
                replaced[name] = replace(signature, call=_create_call(pool, signature))
    return signatures | replaced


def _has_names(lite: Mapping[str, Any], signature: Signature) -> bool:
    return set(lite["inputs"]) == set(signature.inputs) and set(lite["outputs"]) == set(signature.outputs)


def _fits(specs: Mapping[str, TensorSpec], details: Mapping[str, Any]) -> bool:
    """Whether the tensors have the signature's types."""
    types = {name: object if detail["dtype"] is np.bytes_ else detail["dtype"] for name, detail in details.items()}
    return all(spec.dtype == np.dtype(types[name]) for name, spec in specs.items())


def _create_call(pool: InterpreterPool, signature: Signature) -> Call:
    saved_model_call, failures = signature.call, set[str]()

    def call(arrays: list[np.ndarray]) -> list[np.ndarray]:
        if len(arrays[0]):  # LiteRT has no empty tensors
            try:
                outputs = pool.run(arrays)
            except (ValueError, RuntimeError) as error:
                if not failures:
                    log.warning("LiteRT cannot answer '%s', the SavedModel does: %s", signature.name, error)
                    failures.add(str(error))
                return saved_model_call(arrays)  # it also says what is wrong in TensorFlow's words
            # Kernels differ in what they make of infinity and of values that are no number.
            if all(map(_is_finite, outputs)):
                return outputs
        return saved_model_call(arrays)

    return call


def _is_finite(values: np.ndarray) -> bool:
    # The sum of finite values may overflow, too; then the SavedModel answers without need.
    return values.dtype.kind != "f" or isfinite(values.sum())
