"""Signatures of a loaded model: input and output specs, and the call that runs them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from serving.status_errors import ServingError

PREDICT, CLASSIFY, REGRESS = (f"tensorflow/serving/{name}" for name in ("predict", "classify", "regress"))
Call = Callable[[list[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class TensorSpec:
    """Spec of one input or output tensor.

    Attributes:
        tensor: Tensor name in the graph.
        dtype: NumPy type; ``object`` for strings.
        enum: Number of the type in TensorFlow's ``DataType``.
        shape: Size of each axis, None for an axis of any size; None instead of the tuple for any shape.
    """

    tensor: str
    dtype: np.dtype
    enum: int
    shape: tuple[int | None, ...] | None

    @cached_property
    def row_shape(self) -> tuple[int, ...] | None:
        """Shape of one row if only the batch axis has any size; otherwise None."""
        if self.shape is None or self.shape[:1] != (None,):
            return None
        row = tuple(size for size in self.shape[1:] if size is not None)
        return row if len(row) == len(self.shape) - 1 else None

    def accepts(self, shape: Sequence[int]) -> bool:
        """Whether an array of that shape is accepted."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(a in (None, b) for a, b in zip(self.shape, shape, strict=True))


@dataclass(frozen=True)
class Signature:
    """One signature of a model.

    Attributes:
        name: Key of the signature.
        method: Method name: predict, classify or regress.
        inputs: Specs by name, in the order of ``call``'s arguments.
        outputs: Specs by name, in the order of ``call``'s results.
        call: Maps input arrays to output arrays; thread-safe.
    """

    name: str
    method: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    call: Call

    @cached_property
    def batched(self) -> bool:
        """Whether the first axis of every input and output has any size, so that requests can share a batch."""
        specs = (*self.inputs.values(), *self.outputs.values())
        return bool(self.inputs) and all(spec.shape is not None and spec.shape[:1] == (None,) for spec in specs)

    def arrays(self, inputs: Mapping[str, Any]) -> list[np.ndarray]:
        """Validate inputs and return them as arrays in the signature's order.

        Raises:
            ServingError: INVALID_ARGUMENT if a name, type or shape does not match the signature.
        """
        if inputs.keys() != self.inputs.keys():
            raise self._names_error(set(inputs))
        converted = []
        for name, spec in self.inputs.items():
            value = np.asarray(inputs[name])
            if value.dtype != spec.dtype:
                with np.errstate(over="ignore"):
                    value = cast(name, value, spec.dtype)
            # Most inputs have rows of fully known shape, which one comparison of tuples checks.
            if not (value.shape and value.shape[1:] == spec.row_shape) and not spec.accepts(value.shape):
                raise shape_error(name, spec, value.shape)
            converted.append(value)
        if self.batched and len({len(value) for value in converted}) > 1:
            sizes = ", ".join(f"{name} {len(value)}" for name, value in zip(self.inputs, converted, strict=True))
            raise ServingError("INVALID_ARGUMENT", f"Batch sizes of the inputs differ: {sizes}")
        return converted

    def select_outputs(self, outputs: Sequence[str]) -> list[str]:
        """Return the names of the outputs to compute: the requested ones, or all.

        Raises:
            ServingError: INVALID_ARGUMENT if a requested output does not exist or is named twice.
        """
        for name in outputs:
            if name not in self.outputs:
                raise ServingError(
                    "INVALID_ARGUMENT",
                    f"output tensor alias not found in signature: {name} "
                    f"Outputs expected to be in the set {_format_set(self.outputs)}.",
                )
        if len(set(outputs)) < len(outputs):
            raise ServingError("INVALID_ARGUMENT", "duplicate output tensor alias")
        return list(outputs or self.outputs)

    def _names_error(self, given: set[str]) -> ServingError:
        extra, missing = given - set(self.inputs), set(self.inputs) - given
        return ServingError(
            "INVALID_ARGUMENT",
            f"input size does not match signature: {len(given)}!={len(self.inputs)} len({_format_set(given)}) != "
            f"len({_format_set(self.inputs)}). Sent extra: {_format_set(extra)}. Missing but required: {_format_set(missing)}.",
        )


def cast(name: str, value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Cast an array without loss other than floating-point precision.

    A real number beyond the range of the type becomes infinity; NumPy warns of it unless the caller's ``errstate``
    suppresses that.

    Raises:
        ServingError: INVALID_ARGUMENT if the type or a value does not fit.
    """
    kinds = {"f": "iuf", "c": "iufc", "b": "b", "O": "SO"}.get(dtype.kind, "iu")
    if value.size == 0 and value.dtype.kind == "f":
        return value.astype(dtype)  # an empty list has no type of its own
    if value.dtype.kind not in kinds:
        raise ServingError(
            "INVALID_ARGUMENT", f"Input {name} is of type {value.dtype.name}, expected is {_type_name(dtype)}"
        )
    if kinds == "iu" and value.size:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        if int(value.min()) < low or int(value.max()) > high:
            raise ServingError("INVALID_ARGUMENT", f"Input {name} is out of the range of {dtype.name}")
    return value.astype(dtype)


def shape_error(name: str, spec: TensorSpec, shape: Sequence[int]) -> ServingError:
    """Return the error for an input of the wrong shape."""
    expected = ",".join("?" if size is None else str(size) for size in spec.shape or ())
    return ServingError(
        "INVALID_ARGUMENT", f"Input {name} has shape [{','.join(map(str, shape))}], expected is [{expected}]"
    )


def _type_name(dtype: np.dtype) -> str:
    return "string" if dtype.kind == "O" else dtype.name


def _format_set(names: Any) -> str:
    return "{" + ",".join(sorted(names)) + "}"
