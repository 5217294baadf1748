"""Between JSON and arrays, by TensorFlow Serving's rules for rows and columns."""

import base64
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any

import numpy as np

from serving.errors import ServingError
from serving.server.conversion.examples import b64
from serving.server.conversion.request_rows import Rows
from serving.server.signature import Signature, Spec, cast

orjson: ModuleType | None = None  # without it JSON takes longer, and all that JSON allows works the same
with suppress(ImportError):
    import orjson


def parse(body: bytes) -> dict[str, Any]:
    """A JSON object; ``NaN`` and ``Infinity`` are numbers, which standard JSON does not know.

    Raises:
        ServingError: INVALID_ARGUMENT, if it is something else.
    """
    try:
        document = _loads(body)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"JSON Parse error: {error}") from None
    if not isinstance(document, dict):
        raise _invalid("Request body is not a JSON object")
    return document


def _loads(body: bytes) -> Any:
    if orjson is None:
        return json.loads(body)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        if b"NaN" not in body and b"Infinity" not in body:
            raise
    return json.loads(body)


def rows(document: Mapping[str, Any], signature: Signature) -> tuple[Rows, bool]:
    """The inputs of a predict request, and whether they came row by row.

    Raises:
        ServingError: INVALID_ARGUMENT, if they are not the signature's.
    """
    if ("instances" in document) == ("inputs" in document):
        what = (
            "Missing 'inputs' or 'instances' key"
            if "inputs" not in document
            else ("Not formatted correctly expecting only one of 'instances' or 'inputs' keys to exist")
        )
        raise _invalid(what)
    by_row = "instances" in document
    columns = _by_row(document["instances"], signature) if by_row else _by_column(document["inputs"], signature)
    if signature.batched and (by_row or _even(columns)):
        return Rows(len(columns[0]), columns=columns), by_row
    named = zip(signature.inputs.items(), columns, strict=True)
    with np.errstate(over="ignore"):
        arrays = signature.arrays({name: array(name, column, spec) for (name, spec), column in named})
    return Rows(len(arrays[0]) if signature.batched else 1, arrays), by_row


def _even(columns: Sequence[Any]) -> bool:
    return all(isinstance(one, list) for one in columns) and len({len(one) for one in columns}) == 1


def _by_row(instances: Any, signature: Signature) -> list[list[Any]]:
    if not isinstance(instances, list):
        raise _invalid("Expecting 'instances' value to be a list/array")
    if not instances:
        raise _invalid("Invalid value for 'instances': the list is empty")
    names = list(signature.inputs)
    if len(names) == 1 and not any(_named(one, names[0]) for one in instances):
        return [instances]
    try:
        if {len(one) for one in instances} == {len(names)}:
            return [[one[name] for one in instances] for name in names]
    except (KeyError, TypeError, IndexError):
        pass
    raise _odd(instances, names)


def _odd(instances: Sequence[Any], names: Sequence[str]) -> ServingError:
    for at, one in enumerate(instances):
        if not isinstance(one, dict):
            return _invalid(
                f"Expecting object at element {at} of 'instances' list, as there are {len(names)} named inputs"
            )
        if set(one) != set(names):
            extra, missing = sorted(set(one) - set(names)), sorted(set(names) - set(one))
            return _invalid(
                f"Failed to process element: {at} of 'instances' list. Error: "
                f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
            )
    return _invalid("Failed to process 'instances' list")


def _by_column(inputs: Any, signature: Signature) -> list[Any]:
    names = list(signature.inputs)
    if len(names) == 1 and not _named(inputs, names[0]):
        return [inputs]
    if not isinstance(inputs, dict):
        raise _invalid("'inputs' is a plain value/list, but expecting an object/map as there are several named inputs")
    if set(inputs) != set(names):
        signature.arrays(inputs)  # raises with the names that differ
    return [inputs[name] for name in names]


def _named(value: Any, name: str) -> bool:
    """Whether it is an object of inputs, and not a value: bytes are an object, too."""
    return isinstance(value, dict) and (name == "b64" or set(value) != {"b64"})


def array(name: str, value: Any, spec: Spec) -> np.ndarray:
    """A tensor from a number, a string or nested lists.

    Raises:
        ServingError: INVALID_ARGUMENT, if it is ragged or holds what the type cannot.
    """
    if spec.dtype.kind == "O":
        return _strings(name, value)
    try:
        found = np.array(value)
    except (ValueError, OverflowError):
        raise _invalid(
            f"Encountered list at unexpected size in input {name}: all rows have to be of one shape"
        ) from None
    except RecursionError:
        raise _invalid(f"Input {name} is nested too deeply") from None
    if found.dtype == spec.dtype:
        return found
    if found.dtype.kind in "OUS":
        raise _invalid(f"JSON Value of input {name} is not of expected type: {spec.dtype.name}")
    return cast(name, found, spec.dtype)


def _strings(name: str, value: Any) -> np.ndarray:
    try:
        found = np.array(value, object)
    except (ValueError, RecursionError):
        raise _invalid(
            f"Encountered list at unexpected size in input {name}: all rows have to be of one shape"
        ) from None
    flat = found.reshape(-1)
    try:
        flat[:] = [one.encode() if type(one) is str else b64(one) for one in flat.tolist()]
    except UnicodeEncodeError:
        raise _invalid(f"Input {name} holds text that is not Unicode") from None
    except ServingError:
        if any(isinstance(one, list) for one in flat):
            raise _invalid(
                f"Encountered list at unexpected size in input {name}: rows have to be of one shape"
            ) from None
        raise _invalid(
            f"JSON Value of input {name} is not of expected type: string, or an object with the key b64"
        ) from None
    return found


def answer(outputs: Mapping[str, np.ndarray], by_row: bool) -> bytes:
    """The JSON of an answer: ``predictions`` row by row, or ``outputs``; a single one loses its name.

    Raises:
        ServingError: INVALID_ARGUMENT, if rows are asked for and an output has none, or not as many as another.
    """
    plain = {name: _plain(name, value) for name, value in outputs.items()}
    finite = all(value.dtype.kind != "f" or np.isfinite(value).all() for value in outputs.values())
    if not by_row:
        return dumps({"outputs": next(iter(plain.values())) if len(plain) == 1 else plain}, finite)
    sizes = {value.shape[:1] for value in outputs.values()}
    if () in sizes:
        raise _invalid("An output has no batch dimension; ask by 'inputs' in place of 'instances'")
    if len(sizes) > 1:
        raise _invalid(f"Outputs have inconsistent batch sizes: {sorted(size for (size,) in sizes)}")
    if len(plain) == 1:
        return dumps({"predictions": next(iter(plain.values()))}, finite)
    return dumps(
        {"predictions": [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]}, finite
    )


def _plain(name: str, value: np.ndarray) -> Any:
    if value.dtype.kind != "O":
        return value
    if name.endswith("_bytes"):
        texts = [{"b64": base64.b64encode(one).decode()} for one in value.ravel()]
    else:
        texts = [one.decode(errors="replace") for one in value.ravel()]
    found = np.empty(len(texts), object)
    found[:] = texts
    return found.reshape(value.shape).tolist()


def dumps(value: Any, finite: bool = True) -> bytes:
    """JSON, arrays included; float32 in as few digits as tell it from its neighbours."""
    if orjson is not None and finite:
        try:
            return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError:
            pass  # a type of array that it does not know
    return json.dumps(value, default=_listed).encode()


def _listed(value: Any) -> Any:
    if isinstance(value, np.floating) or (isinstance(value, np.ndarray) and value.dtype.kind == "f"):
        # By way of its shortest text: 0.1 as float32 is not 0.10000000149011612.
        texts = value.astype(str) if isinstance(value, np.ndarray) else np.array(str(value))
        return texts.astype(float).tolist()
    return value.tolist()


def _invalid(message: str) -> ServingError:
    return ServingError("INVALID_ARGUMENT", message)
