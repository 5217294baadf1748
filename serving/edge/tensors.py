"""Tensor specs of a `.tflite` and the conversion of arrays to them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

STRING = np.dtype(np.bytes_).name


@dataclass(frozen=True)
class Tensor:
    """Spec of an input or output tensor.

    Attributes:
        dtype: Name of the NumPy type.
        shape: Shape of one row, without the batch axis.
    """

    dtype: str
    shape: tuple[int, ...]


def fit_tensors(rows: Mapping[str, np.ndarray], specs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Convert arrays ``[rows, ...]`` by name to the types in ``specs``: 64-bit integers become 32-bit ones if they fit.

    Raises:
        ValueError: for a missing or unknown name, another type or shape, a number out of range, or unequal numbers of rows.
    """
    if rows.keys() != specs.keys():
        raise ValueError(f"The model takes {', '.join(sorted(specs))}, not {', '.join(sorted(rows)) or 'nothing'}.")
    if len({len(values) for values in rows.values()}) != 1:
        raise ValueError("The inputs differ in their number of rows.")
    return {name: _fit_tensor(name, np.asarray(rows[name]), tensor) for name, tensor in specs.items()}


def _fit_tensor(name: str, values: np.ndarray, spec: Tensor) -> np.ndarray:
    if values.shape[1:] != spec.shape:
        raise ValueError(f"A row of {name} has the shape {list(spec.shape)}, not {list(values.shape[1:])}.")
    if spec.dtype == STRING and values.dtype.kind in "OSU":
        return np.ascontiguousarray(values)
    if values.dtype.name == "int64" and spec.dtype == "int32":
        bounds = np.iinfo(np.int32)
        if values.size and (values.min() < bounds.min or values.max() > bounds.max):
            raise ValueError(f"A value of {name} does not fit into 32 bits; the model takes int32.")
        values = values.astype(np.int32)
    if values.dtype.name != spec.dtype:
        raise ValueError(f"{name} is {spec.dtype}, not {values.dtype.name}.")
    return np.ascontiguousarray(values)
