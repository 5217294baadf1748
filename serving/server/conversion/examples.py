"""The ``tf.Example`` interface: inputs and outputs of classify and regress requests."""

import base64
import binascii
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.server.signature import CLASSIFY, REGRESS, Signature
from serving.status_errors import ServingError

INPUT, CLASSES, SCORES, OUTPUT = "inputs", "classes", "scores", "outputs"


def serialize_examples(message: Any) -> np.ndarray:
    """Return the serialized examples of an ``Input``, strings ``[n]``; its context, if any, is merged into each.

    Raises:
        ServingError: INVALID_ARGUMENT if there are no examples.
    """
    kind = message.WhichOneof("kind")
    example_list = getattr(message, kind) if kind else None
    if example_list is None or not example_list.examples:
        raise ServingError("INVALID_ARGUMENT", "Input is empty.")
    array = np.empty(len(example_list.examples), object)
    if kind == "example_list":
        array[:] = [example.SerializeToString() for example in example_list.examples]
        return array
    for n, example in enumerate(example_list.examples):
        merged = type(example)()
        merged.CopyFrom(example_list.context)
        merged.MergeFrom(example)
        array[n] = merged.SerializeToString()
    return array


def list_from_json(document: Mapping[str, Any]) -> list[bytes]:
    """Serialize the examples of a classify or regress request in JSON.

    Raises:
        ServingError: INVALID_ARGUMENT if there are none, or one is not valid.
    """
    example_list = document.get("examples")
    if not isinstance(example_list, list) or not example_list:
        raise ServingError("INVALID_ARGUMENT", "Expecting non-empty 'examples' list")
    return [from_json(example, document.get("context")) for example in example_list]


def from_json(value: Any, context: Any = None) -> bytes:
    """Serialize a JSON object of features as a ``tf.Example``; ``context`` supplies the features that it lacks.

    Raises:
        ServingError: INVALID_ARGUMENT if a feature is neither a value nor a list of values of one type.
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
    converted = [_to_plain_value(name, value) for value in values]
    try:
        if all(isinstance(value, bytes) for value in converted):
            feature.bytes_list.value.extend(converted)
        elif all(isinstance(value, int) for value in converted):
            feature.int64_list.value.extend(int(value) for value in converted)
        elif all(isinstance(value, int | float) for value in converted):
            feature.float_list.value.extend(converted)
        else:
            raise TypeError
    except (TypeError, ValueError, OverflowError):
        raise ServingError(
            "INVALID_ARGUMENT", f"Example feature: {name} has values of mixed or unsupported types"
        ) from None


def _to_plain_value(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return value.encode()
    return decode_base64(value) if isinstance(value, Mapping) else value


def decode_base64(value: Any) -> bytes:
    """Decode the bytes of ``{"b64": text}``; white space in the text, such as line breaks, is skipped.

    Raises:
        ServingError: INVALID_ARGUMENT for any other value.
    """
    try:
        if len(value) != 1:
            raise ValueError("one key is expected")
        text = value["b64"].encode("ascii").translate(None, string.whitespace.encode())
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (AttributeError, KeyError, TypeError, ValueError, binascii.Error):
        raise ServingError(
            "INVALID_ARGUMENT", "Unable to base64 decode: an object with one key, b64, is expected"
        ) from None


def check_signature(signature: Signature, method: str) -> None:
    """Check that a signature supports a classify or regress request.

    Raises:
        ServingError: INVALID_ARGUMENT if its method, inputs or outputs do not match the request.
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
    expected = {CLASSES, SCORES} if method == CLASSIFY else {OUTPUT}
    if not set(signature.outputs) & expected or (method == REGRESS and OUTPUT not in signature.outputs):
        raise ServingError(
            "INVALID_ARGUMENT", f"Expected {word} signature outputs to contain {' or '.join(sorted(expected))}"
        )


def get_classes(outputs: Mapping[str, np.ndarray], rows: int) -> list[list[tuple[str, float]]]:
    """Return label and score of every class of every example.

    If the signature has only one of the two outputs, labels are empty or scores are 0.

    Raises:
        ServingError: INVALID_ARGUMENT if an output is not ``[rows, classes]``.
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


def get_values(outputs: Mapping[str, np.ndarray], rows: int) -> list[float]:
    """Return the value of every example.

    Raises:
        ServingError: INVALID_ARGUMENT if the output is not ``[rows]`` or ``[rows, 1]``.
    """
    array = outputs[OUTPUT]
    if array.shape not in ((rows,), (rows, 1)):
        raise ServingError(
            "INVALID_ARGUMENT", "Expected output Tensor shape to be either [batch_size] or [batch_size, 1]"
        )
    return array.reshape(rows).tolist()


def to_string_array(values: Sequence[bytes]) -> np.ndarray:
    """Return byte strings as an array ``[n]`` of type ``object``."""
    array = np.empty(len(values), object)
    array[:] = list(values)
    return array


def _json_type(value: Any) -> str:
    return {list: "Array", str: "String", bool: "Bool", type(None): "Null"}.get(type(value), "Number")
