"""Conversion between ``TensorProto`` and NumPy; TensorFlow's own conversion is slower for small tensors."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from serving.server.conversion import wire_values
from serving.status_errors import ServingError

# Number of the DataType: NumPy type, and the TensorProto field that holds the values as a list.
KINDS: dict[int, tuple[np.dtype, str]] = {
    1: (np.dtype(np.float32), "float_val"),
    2: (np.dtype(np.float64), "double_val"),
    3: (np.dtype(np.int32), "int_val"),
    4: (np.dtype(np.uint8), "int_val"),
    5: (np.dtype(np.int16), "int_val"),
    6: (np.dtype(np.int8), "int_val"),
    7: (np.dtype(object), "string_val"),
    9: (np.dtype(np.int64), "int64_val"),
    10: (np.dtype(np.bool_), "bool_val"),
    17: (np.dtype(np.uint16), "int_val"),
    22: (np.dtype(np.uint32), "uint32_val"),
    23: (np.dtype(np.uint64), "uint64_val"),
}
ENUMS = {dtype: enum for enum, (dtype, _) in KINDS.items()}
RARE = (8, 14, 18, 19)  # complex64, bfloat16, complex128, half: converted by TensorFlow
MAX_REPEATED = 1 << 20  # largest tensor, in values, that a repeated last value may fill
MAX_FILLED = 16 << 20  # bytes of all tensors of a request that repeated last values may fill
MAX_GROWTH = 8  # bytes of an array per byte of a message, as an integer or a pointer to a string takes eight
MAX_SHAPE_BYTES = 64  # of a serialized shape that is remembered
UNKNOWN = -1
CHUNK = 1 << 16  # values that are converted without releasing Python's lock


def from_protos(tensors: Mapping[str, Any], message_size: int) -> dict[str, np.ndarray]:
    """Convert the inputs of a request of ``message_size`` bytes.

    Raises:
        ServingError: INVALID_ARGUMENT if a tensor is not valid, or repeated values fill more than ``MAX_FILLED`` bytes.
    """
    arrays, remaining = {}, MAX_FILLED + MAX_GROWTH * message_size
    for name in tensors:  # twice as fast as items()
        arrays[name] = array = from_proto(name, tensors[name])
        remaining -= array.nbytes
        if remaining < 0:
            raise ServingError("INVALID_ARGUMENT", f"Repeated values fill more than {MAX_FILLED} bytes of the inputs")
    return arrays


def from_proto(name: str, tensor: Any) -> np.ndarray:
    """Convert a ``TensorProto`` to an array, which is read-only if it shares the message's bytes.

    Raises:
        ServingError: INVALID_ARGUMENT if values and shape contradict each other, or the type is not supported.
    """
    serialized = tensor.tensor_shape.SerializeToString()
    read = _read_known_shape if len(serialized) <= MAX_SHAPE_BYTES else _read_shape
    shape, size = read(serialized)
    if size < 0:
        raise ServingError("INVALID_ARGUMENT", f"The shape of tensor {name} is not fully known")
    kind = KINDS.get(tensor.dtype)
    if kind is None:
        if size > MAX_REPEATED and not tensor.tensor_content:
            raise _mismatch_error(name, shape, "no tensor_content")
        return _convert_with_tensorflow(name, tensor)
    dtype, field = kind
    content = tensor.tensor_content  # each access copies the bytes
    if content and field != "string_val":
        if len(content) != size * dtype.itemsize:
            raise _mismatch_error(name, shape, f"{len(content)} bytes")
        return np.frombuffer(content, dtype).reshape(shape)
    values = getattr(tensor, field)
    if len(values) == size:
        return _to_flat_array(name, values, dtype).reshape(shape)
    if not 0 < len(values) < size < MAX_REPEATED:
        raise _mismatch_error(name, shape, f"{len(values)} values")
    flat = np.empty(size, dtype)  # TensorFlow's compact form: the last value is repeated
    flat[: len(values)] = _to_flat_array(name, values, dtype)
    flat[len(values) :] = values[-1]
    return flat.reshape(shape)


def _read_shape(serialized: bytes) -> tuple[tuple[int, ...], int]:
    """Return a shape and its number of values, which is negative if the shape is not fully known."""
    from tensorflow.core.framework import tensor_shape_pb2

    message = tensor_shape_pb2.TensorShapeProto.FromString(serialized)
    shape = tuple(dim.size for dim in message.dim)
    return shape, UNKNOWN if message.unknown_rank or min(shape, default=0) < 0 else prod(shape)


# Nearly all requests of a model have few shapes, and a message's axes take longer to read than its values.
_read_known_shape = lru_cache(maxsize=1024)(_read_shape)


def to_proto(tensor: Any, value: np.ndarray, packed: bool = False) -> None:
    """Fill a ``TensorProto`` with a list of values, as TensorFlow Serving does for old clients, or ``packed`` as bytes."""
    enum = ENUMS.get(value.dtype)
    if enum is None:
        from tensorflow import make_tensor_proto

        tensor.CopyFrom(make_tensor_proto(value))
        return
    tensor.dtype = enum
    shape = tensor.tensor_shape
    for size in value.shape:
        shape.dim.add(size=size)
    if packed and value.dtype.kind != "O":
        tensor.tensor_content = value.tobytes()
        return
    flat, field = value.ravel(), KINDS[enum][1]
    if len(flat) > CHUNK and value.dtype.kind == "f":
        _fill_floats(tensor, field, flat)
        return
    for start in range(0, len(flat), CHUNK):
        getattr(tensor, field).extend(flat[start : start + CHUNK].tolist())


def _fill_floats(tensor: Any, field: str, flat: np.ndarray) -> None:
    """Fill a list with many floats by its serialized form, which is the array's bytes, so that no list is in memory."""
    content = flat.astype(flat.dtype.newbyteorder("<"), copy=False).tobytes()
    tensor.MergeFromString(wire_values.encode_field(tensor.DESCRIPTOR.fields_by_name[field].number, content))


def _to_flat_array(name: str, values: Sequence[Any], dtype: np.dtype) -> np.ndarray:
    try:
        if len(values) <= CHUNK:
            return np.fromiter(values, dtype, len(values))
        flat = np.empty(len(values), dtype)
        for start in range(0, len(values), CHUNK):
            chunk = values[start : start + CHUNK]
            flat[start : start + CHUNK] = np.fromiter(chunk, dtype, len(chunk))
        return flat
    except OverflowError:
        raise ServingError("INVALID_ARGUMENT", f"Tensor {name} has values out of the range of {dtype.name}") from None


def _convert_with_tensorflow(name: str, tensor: Any) -> np.ndarray:
    if tensor.dtype not in RARE:
        raise ServingError("INVALID_ARGUMENT", f"Tensor {name} has the unsupported type {tensor.dtype}")
    from tensorflow import make_ndarray

    try:
        return make_ndarray(tensor)
    except (TypeError, ValueError) as error:
        raise ServingError("INVALID_ARGUMENT", f"Tensor {name} cannot be read: {error}") from None


def _mismatch_error(name: str, shape: Sequence[int], content: str) -> ServingError:
    sizes = ",".join(map(str, shape))
    return ServingError("INVALID_ARGUMENT", f"Tensor {name} of shape [{sizes}] has {content}")
