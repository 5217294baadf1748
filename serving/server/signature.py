"""A model's door: what it takes, what it gives, and the call behind it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from serving.errors import ServingError

PREDICT, CLASSIFY, REGRESS = (f"tensorflow/serving/{name}" for name in ("predict", "classify", "regress"))
Call = Callable[[list[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class Spec:
    """One input or output.

    Attributes:
        tensor: Its name in the graph.
        dtype: NumPy's type; ``object`` for strings.
        enum: TensorFlow's number of the type.
        shape: Sizes, None for one that is free; None for any shape.
    """

    tensor: str
    dtype: np.dtype
    enum: int
    shape: tuple[int | None, ...] | None

    @cached_property
    def row(self) -> tuple[int, ...] | None:
        """Shape of a row where the rows' number alone is free; None for any other."""
        if self.shape is None or self.shape[:1] != (None,):
            return None
        row = tuple(size for size in self.shape[1:] if size is not None)
        return row if len(row) == len(self.shape) - 1 else None

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether an array of that shape can be fed."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(a in (None, b) for a, b in zip(self.shape, shape, strict=True))


@dataclass(frozen=True)
class Signature:
    """What a model answers under one name.

    Attributes:
        name: Its key.
        method: What kind of request it is for.
        inputs: By name, in the order in which ``call`` takes them.
        outputs: By name, in the order in which ``call`` gives them.
        call: Arrays to arrays; may be called from several threads.
    """

    name: str
    method: str
    inputs: Mapping[str, Spec]
    outputs: Mapping[str, Spec]
    call: Call

    @cached_property
    def batched(self) -> bool:
        """Whether the first axis of every input and output is free, so that rows of several requests can be run as one."""
        specs = (*self.inputs.values(), *self.outputs.values())
        return bool(self.inputs) and all(one.shape is not None and one.shape[:1] == (None,) for one in specs)

    def arrays(self, inputs: Mapping[str, Any]) -> list[np.ndarray]:
        """The inputs in order, checked.

        Raises:
            ServingError: INVALID_ARGUMENT, if a name, type or shape is not the signature's.
        """
        if inputs.keys() != self.inputs.keys():
            raise self._names(set(inputs))
        found = []
        for name, spec in self.inputs.items():
            value = np.asarray(inputs[name])
            if value.dtype != spec.dtype:
                with np.errstate(over="ignore"):
                    value = cast(name, value, spec.dtype)
            # By far most are of fully known rows: one comparison of tuples.
            if not (value.shape and value.shape[1:] == spec.row) and not spec.fits(value.shape):
                raise misshapen(name, spec, value.shape)
            found.append(value)
        if self.batched and len({len(value) for value in found}) > 1:
            sizes = ", ".join(f"{name} {len(value)}" for name, value in zip(self.inputs, found, strict=True))
            raise ServingError("INVALID_ARGUMENT", f"Batch sizes of the inputs differ: {sizes}")
        return found

    def chosen(self, outputs: Sequence[str]) -> list[str]:
        """The names to be answered: those asked for, or all.

        Raises:
            ServingError: INVALID_ARGUMENT, if one is asked for that is not there or twice.
        """
        for name in outputs:
            if name not in self.outputs:
                raise ServingError(
                    "INVALID_ARGUMENT",
                    f"output tensor alias not found in signature: {name} "
                    f"Outputs expected to be in the set {_set(self.outputs)}.",
                )
        if len(set(outputs)) < len(outputs):
            raise ServingError("INVALID_ARGUMENT", "duplicate output tensor alias")
        return list(outputs or self.outputs)

    def _names(self, given: set[str]) -> ServingError:
        extra, missing = given - set(self.inputs), set(self.inputs) - given
        return ServingError(
            "INVALID_ARGUMENT",
            f"input size does not match signature: {len(given)}!={len(self.inputs)} len({_set(given)}) != "
            f"len({_set(self.inputs)}). Sent extra: {_set(extra)}. Missing but required: {_set(missing)}.",
        )


def cast(name: str, value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """An array as another type, where nothing is lost but the precision of a real number; beyond its range lies infinity,
    of which NumPy warns unless the caller's ``errstate`` says otherwise.

    Raises:
        ServingError: INVALID_ARGUMENT, if it does not fit.
    """
    kinds = {"f": "iuf", "c": "iufc", "b": "b", "O": "SO"}.get(dtype.kind, "iu")
    if value.size == 0 and value.dtype.kind == "f":
        return value.astype(dtype)  # an empty list has no type of its own
    if value.dtype.kind not in kinds:
        raise ServingError(
            "INVALID_ARGUMENT", f"Input {name} is of type {value.dtype.name}, expected is {_type(dtype)}"
        )
    if kinds == "iu" and value.size:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        if int(value.min()) < low or int(value.max()) > high:
            raise ServingError("INVALID_ARGUMENT", f"Input {name} is out of the range of {dtype.name}")
    return value.astype(dtype)


def misshapen(name: str, spec: Spec, shape: Sequence[int]) -> ServingError:
    """The error for an input of the wrong shape."""
    wanted = ",".join("?" if size is None else str(size) for size in spec.shape or ())
    return ServingError(
        "INVALID_ARGUMENT", f"Input {name} has shape [{','.join(map(str, shape))}], expected is [{wanted}]"
    )


def _type(dtype: np.dtype) -> str:
    return "string" if dtype.kind == "O" else dtype.name


def _set(names: Any) -> str:
    return "{" + ",".join(sorted(names)) + "}"
