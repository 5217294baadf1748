"""What a `.tflite` takes and gives a row, and arrays made to fit it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tensor:
    """One row of an input or output.

    Attributes:
        dtype: As NumPy calls it.
        shape: Without the axis of the rows.
    """

    dtype: str
    shape: tuple[int, ...]


def fitted(rows: Mapping[str, np.ndarray], wanted: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """The rows, ``[rows, ...]`` a name, in the types that are wanted: 64-bit integers become 32-bit ones where they fit.

    Raises:
        ValueError: for a name too few or too many, another type or shape, a number that does not fit, or unequal rows.
    """
    if rows.keys() != wanted.keys():
        raise ValueError(f"The model takes {', '.join(sorted(wanted))}, not {', '.join(sorted(rows)) or 'nothing'}.")
    if len({len(values) for values in rows.values()}) != 1:
        raise ValueError("The inputs differ in their number of rows.")
    return {name: _fitted(name, np.asarray(rows[name]), tensor) for name, tensor in wanted.items()}


def _fitted(name: str, values: np.ndarray, wanted: Tensor) -> np.ndarray:
    if values.shape[1:] != wanted.shape:
        raise ValueError(f"A row of {name} has the shape {list(wanted.shape)}, not {list(values.shape[1:])}.")
    if values.dtype.name == "int64" and wanted.dtype == "int32":
        bounds = np.iinfo(np.int32)
        if values.size and (values.min() < bounds.min or values.max() > bounds.max):
            raise ValueError(f"A number of {name} does not fit into 32 bits, which is all that this model takes.")
        values = values.astype(np.int32)
    if values.dtype.name != wanted.dtype:
        raise ValueError(f"{name} is {wanted.dtype}, not {values.dtype.name}.")
    return np.ascontiguousarray(values)
