"""The ``tf.Example`` interface: classify, regress, and what their requests carry."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.errors import ServingError
from serving.server.signature import CLASSIFY, REGRESS, Signature

INPUT, CLASSES, SCORES, OUTPUT = "inputs", "classes", "scores", "outputs"


def serialized(message: Any) -> np.ndarray:
    """The examples of an ``Input``, each serialized, strings ``[n]``; a context is merged into each.

    Raises:
        ServingError: INVALID_ARGUMENT, if there are none.
    """
    kind = message.WhichOneof("kind")
    listed = getattr(message, kind) if kind else None
    if listed is None or not listed.examples:
        raise ServingError("INVALID_ARGUMENT", "Input is empty.")
    found = np.empty(len(listed.examples), object)
    if kind == "example_list":
        found[:] = [one.SerializeToString() for one in listed.examples]
        return found
    for n, one in enumerate(listed.examples):
        both = type(one)()
        both.CopyFrom(listed.context)
        both.MergeFrom(one)
        found[n] = both.SerializeToString()
    return found


def from_json(value: Any, context: Any = None) -> bytes:
    """A ``tf.Example`` from a JSON object of features; one in ``context`` is taken where the example has none.

    Raises:
        ServingError: INVALID_ARGUMENT, if a feature is neither a value nor a list of values of one type.
    """
    from tensorflow.core.example import example_pb2

    example = example_pb2.Example()
    for features in (context or {}, value):
        if not isinstance(features, Mapping):
            raise ServingError(
                "INVALID_ARGUMENT", "Example must be JSON object but got JSON type " + _json_type(features)
            )
        for name, values in features.items():
            _fill(example.features.feature[name], name, values if isinstance(values, list) else [values])
    return example.SerializeToString()


def _fill(feature: Any, name: str, values: list[Any]) -> None:
    feature.Clear()
    plain = [_unwrapped(name, value) for value in values]
    try:
        if all(isinstance(value, bytes) for value in plain):
            feature.bytes_list.value.extend(plain)
        elif all(isinstance(value, int) for value in plain):
            feature.int64_list.value.extend(int(value) for value in plain)
        elif all(isinstance(value, int | float) for value in plain):
            feature.float_list.value.extend(plain)
        else:
            raise TypeError
    except (TypeError, ValueError, OverflowError):
        raise ServingError(
            "INVALID_ARGUMENT", f"Example feature: {name} has values of several or no possible types"
        ) from None


def _unwrapped(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return value.encode()
    return b64(value) if isinstance(value, Mapping) else value


def b64(value: Any) -> bytes:
    """The bytes of ``{"b64": text}``.

    Raises:
        ServingError: INVALID_ARGUMENT, if it is something else.
    """
    try:
        if len(value) != 1:
            raise ValueError("one key is expected")
        text = value["b64"]
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise ServingError(
            "INVALID_ARGUMENT", "Unable to base64 decode: an object with one key, b64, is expected"
        ) from None


def check(signature: Signature, method: str) -> None:
    """Refuses a signature that is for another kind of request.

    Raises:
        ServingError: INVALID_ARGUMENT, naming what it is for.
    """
    kind = method.rpartition("/")[2]
    word = {"classify": "classification", "regress": "regression"}[kind]
    if signature.method != method:
        raise ServingError(
            "INVALID_ARGUMENT",
            f"Expected {word} signature method_name to be {method}. Was: {signature.method}",
        )
    if set(signature.inputs) != {INPUT}:
        raise ServingError("INVALID_ARGUMENT", f"Expected {word} signature to have one input named {INPUT}")
    wanted = {CLASSES, SCORES} if method == CLASSIFY else {OUTPUT}
    if not set(signature.outputs) & wanted or (method == REGRESS and OUTPUT not in signature.outputs):
        raise ServingError(
            "INVALID_ARGUMENT", f"Expected {word} signature outputs to contain {' or '.join(sorted(wanted))}"
        )


def classes(outputs: Mapping[str, np.ndarray], rows: int) -> list[list[tuple[str, float]]]:
    """Label and score of every class of every example; the one that the signature lacks stays empty.

    Raises:
        ServingError: INVALID_ARGUMENT, if an output is not ``[rows, classes]``.
    """
    for name in (CLASSES, SCORES):
        if name in outputs and (outputs[name].ndim != 2 or len(outputs[name]) != rows):
            raise ServingError("INVALID_ARGUMENT", f"Expected Tensor {name} to be of shape [batch_size, classes]")
    shape = outputs[SCORES if SCORES in outputs else CLASSES].shape
    labels = outputs.get(CLASSES, np.full(shape, b"", object)).tolist()
    scores = outputs.get(SCORES, np.zeros(shape, np.float32)).tolist()
    return [
        [(label.decode(errors="replace"), score) for label, score in zip(*pair, strict=True)]
        for pair in zip(labels, scores, strict=True)
    ]


def values(outputs: Mapping[str, np.ndarray], rows: int) -> list[float]:
    """The value of every example.

    Raises:
        ServingError: INVALID_ARGUMENT, if the output is not ``[rows]`` or ``[rows, 1]``.
    """
    found = outputs[OUTPUT]
    if found.shape not in ((rows,), (rows, 1)):
        raise ServingError(
            "INVALID_ARGUMENT", "Expected output Tensor shape to be either [batch_size] or [batch_size, 1]"
        )
    return found.reshape(rows).tolist()


def strings(values: Sequence[bytes]) -> np.ndarray:
    """Bytes as an array of strings ``[n]``."""
    found = np.empty(len(values), object)
    found[:] = list(values)
    return found


def _json_type(value: Any) -> str:
    return {list: "Array", str: "String", bool: "Bool", type(None): "Null"}.get(type(value), "Number")
