"""Conversion between JSON and arrays by TensorFlow Serving's rules for the row and column formats."""

import base64
import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson

from serving.server.conversion.examples import decode_base64
from serving.server.conversion.request_rows import Rows
from serving.server.signature import Signature, TensorSpec, cast, shape_error
from serving.status_errors import ServingError

MAX_RANK = 32  # largest number of dimensions of an input of any shape
SCAN_BYTES = 1 << 20  # bytes that are scanned without releasing Python's lock


def count_values(body: bytes | bytearray, limit: int) -> int:
    """Return an upper bound on the number of values of a JSON text: its commas and opening brackets.

    Those inside strings are counted as well. The scan ends once there are more than ``limit``.
    """
    count = 1
    for start in range(0, len(body), SCAN_BYTES):
        end = start + SCAN_BYTES
        count += body.count(b",", start, end) + body.count(b"[", start, end) + body.count(b"{", start, end)
        if count > limit:
            break
    return count


def parse(body: bytes | bytearray) -> dict[str, Any]:
    """Parse a JSON object; ``NaN`` and ``Infinity``, which standard JSON does not have, are accepted as numbers.

    Raises:
        ServingError: INVALID_ARGUMENT if the body is not a JSON object.
    """
    try:
        document = _decode(body)
    except (ValueError, RecursionError) as error:
        raise _error(f"JSON Parse error: {error}") from None
    if not isinstance(document, dict):
        raise _error("Request body is not a JSON object")
    return document


def _decode(body: bytes | bytearray) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        if b"NaN" not in body and b"Infinity" not in body:
            raise
    return json.loads(body)


def parse_rows(document: Mapping[str, Any], signature: Signature, at_once: bool = False) -> tuple[Rows, bool]:
    """Parse the inputs of a predict request; return them and whether they are in row format (``instances``).

    Args:
        document: The request.
        signature: The signature to run.
        at_once: Convert the values now, with a check of the nesting first, and not when a batch is formed.

    Raises:
        ServingError: INVALID_ARGUMENT if they do not match the signature.
    """
    if ("instances" in document) == ("inputs" in document):
        problem = (
            "Missing 'inputs' or 'instances' key"
            if "inputs" not in document
            else ("Not formatted correctly expecting only one of 'instances' or 'inputs' keys to exist")
        )
        raise _error(problem)
    by_row = "instances" in document
    columns = (
        _columns_from_rows(document["instances"], signature)
        if by_row
        else _columns_from_inputs(document["inputs"], signature)
    )
    if not at_once and signature.batched and (by_row or _have_equal_lengths(columns)):
        return Rows(len(columns[0]), columns=columns), by_row
    named = zip(signature.inputs.items(), columns, strict=True)
    with np.errstate(over="ignore"):
        arrays = signature.arrays({name: _convert(name, column, spec, at_once) for (name, spec), column in named})
    return Rows(len(arrays[0]) if signature.batched else 1, arrays), by_row


def _have_equal_lengths(columns: Sequence[Any]) -> bool:
    return all(isinstance(column, list) for column in columns) and len({len(column) for column in columns}) == 1


def _columns_from_rows(instances: Any, signature: Signature) -> list[list[Any]]:
    if not isinstance(instances, list):
        raise _error("Expecting 'instances' value to be a list/array")
    if not instances:
        raise _error("Invalid value for 'instances': the list is empty")
    names = list(signature.inputs)
    if len(names) == 1 and not any(_is_object_of_inputs(instance, names[0]) for instance in instances):
        return [instances]
    try:
        if {len(instance) for instance in instances} == {len(names)}:
            return [[instance[name] for instance in instances] for name in names]
    except (KeyError, TypeError, IndexError):
        pass
    raise _instances_error(instances, names)


def _instances_error(instances: Sequence[Any], names: Sequence[str]) -> ServingError:
    for position, instance in enumerate(instances):
        if not isinstance(instance, dict):
            return _error(
                f"Expecting object at element {position} of 'instances' list, as there are {len(names)} named inputs"
            )
        if set(instance) != set(names):
            extra, missing = sorted(set(instance) - set(names)), sorted(set(names) - set(instance))
            return _error(
                f"Failed to process element: {position} of 'instances' list. Error: "
                f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
            )
    return _error("Failed to process 'instances' list")


def _columns_from_inputs(inputs: Any, signature: Signature) -> list[Any]:
    names = list(signature.inputs)
    if len(names) == 1 and not _is_object_of_inputs(inputs, names[0]):
        return [inputs]
    if not isinstance(inputs, dict):
        raise _error("'inputs' is a plain value/list, but expecting an object/map as there are several named inputs")
    if set(inputs) != set(names):
        signature.arrays(inputs)  # raises an error that names the differences
    return [inputs[name] for name in names]


def _is_object_of_inputs(value: Any, name: str) -> bool:
    """Whether a value is an object of inputs, and not a string of bytes, which is also an object (``{"b64": ...}``)."""
    return isinstance(value, dict) and (name == "b64" or set(value) != {"b64"})


def _convert(name: str, value: Any, spec: TensorSpec, flat: bool) -> np.ndarray:
    if not flat:
        return to_array(name, value, spec)
    values, shape = flatten(name, value, spec)
    return to_array(name, values, spec).reshape(shape)


def flatten(name: str, value: Any, spec: TensorSpec) -> tuple[list[Any], list[int]]:
    """Return the values of nested lists and their shape.

    NumPy needs far more time and memory for ragged and deeply nested lists before it refuses them.

    Raises:
        ServingError: INVALID_ARGUMENT if the lists are ragged, or do not have the spec's shape.
    """
    level, shape = [value], []
    while list in (kinds := set(map(type, level))):
        sizes = set(map(len, level)) if len(kinds) == 1 else set()
        if len(sizes) != 1:
            raise _ragged_error(name)
        shape.append(sizes.pop())
        if len(shape) > (MAX_RANK if spec.shape is None else len(spec.shape)):
            raise shape_error(name, spec, shape)
        level = list(chain.from_iterable(level))
    if not spec.accepts(shape):
        raise shape_error(name, spec, shape)
    return level, shape


def _ragged_error(name: str) -> ServingError:
    return _error(f"Encountered list at unexpected size in input {name}: all rows have to be of one shape")


def to_array(name: str, value: Any, spec: TensorSpec) -> np.ndarray:
    """Convert a number, a string or nested lists to an array of the spec's type.

    Raises:
        ServingError: INVALID_ARGUMENT if the lists are ragged or a value does not fit the type.
    """
    if spec.dtype.kind == "O":
        return _to_strings(name, value)
    try:
        converted = np.array(value)
    except (ValueError, OverflowError):
        raise _ragged_error(name) from None
    except RecursionError:
        raise _error(f"Input {name} is nested too deeply") from None
    if converted.dtype == spec.dtype:
        return converted
    if converted.dtype.kind in "OUS":
        raise _error(f"JSON Value of input {name} is not of expected type: {spec.dtype.name}")
    return cast(name, converted, spec.dtype)


def _to_strings(name: str, value: Any) -> np.ndarray:
    try:
        array = np.array(value, object)
    except (ValueError, RecursionError):
        raise _ragged_error(name) from None
    elements = array.reshape(-1)
    try:
        elements[:] = [
            element.encode() if type(element) is str else decode_base64(element) for element in elements.tolist()
        ]
    except UnicodeEncodeError:
        raise _error(f"Input {name} holds text that is not Unicode") from None
    except ServingError:
        if any(isinstance(element, list) for element in elements):
            raise _ragged_error(name) from None
        raise _error(
            f"JSON Value of input {name} is not of expected type: string, or an object with the key b64"
        ) from None
    return array


def encode_response(outputs: Mapping[str, np.ndarray], by_row: bool) -> bytes:
    """Encode outputs as JSON: ``predictions`` in row format, else ``outputs``; a single output is not named.

    Raises:
        ServingError: INVALID_ARGUMENT for row format if an output has no batch dimension or batch sizes differ.
    """
    values_by_name = {name: _to_json_value(name, value) for name, value in outputs.items()}
    finite = all(value.dtype.kind != "f" or np.isfinite(value).all() for value in outputs.values())
    if not by_row:
        return dumps(
            {"outputs": next(iter(values_by_name.values())) if len(values_by_name) == 1 else values_by_name}, finite
        )
    sizes = {value.shape[:1] for value in outputs.values()}
    if () in sizes:
        raise _error("An output has no batch dimension; use 'inputs' instead of 'instances'")
    if len(sizes) > 1:
        raise _error(f"Outputs have inconsistent batch sizes: {sorted(size for (size,) in sizes)}")
    if len(values_by_name) == 1:
        return dumps({"predictions": next(iter(values_by_name.values()))}, finite)
    return dumps(
        {
            "predictions": [
                dict(zip(values_by_name, row, strict=True)) for row in zip(*values_by_name.values(), strict=True)
            ]
        },
        finite,
    )


def _to_json_value(name: str, value: np.ndarray) -> Any:
    if value.dtype.kind != "O":
        return value
    if name.endswith("_bytes"):
        texts = [{"b64": base64.b64encode(element).decode()} for element in value.ravel()]
    else:
        texts = [element.decode(errors="replace") for element in value.ravel()]
    array = np.empty(len(texts), object)
    array[:] = texts
    return array.reshape(value.shape).tolist()


def dumps(value: Any, finite: bool = True) -> bytes:
    """Encode a value as JSON, arrays included; float32 in the fewest digits that identify it."""
    if finite:
        try:
            return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError:
            pass  # an array of a type that orjson does not support
    return json.dumps(value, default=_to_list).encode()


def _to_list(value: Any) -> Any:
    if isinstance(value, np.floating) or (isinstance(value, np.ndarray) and value.dtype.kind == "f"):
        # Converted through the shortest text, so that 0.1 as float32 does not become 0.10000000149011612.
        texts = value.astype(str) if isinstance(value, np.ndarray) else np.array(str(value))
        return texts.astype(float).tolist()
    return value.tolist()


def _error(message: str) -> ServingError:
    return ServingError("INVALID_ARGUMENT", message)
