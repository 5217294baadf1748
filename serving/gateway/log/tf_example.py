"""Encodes and decodes ``tf.Example`` by protocol buffers alone; the log keeps exactly the bytes that the model reads.

Importing TensorFlow's own class of the message takes seconds and all of TensorFlow. The descriptor below is the same message,
in a pool of its own. Serialized messages may be concatenated, which merges their maps: a request's features followed by an
example of further features is a valid example.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

Value = bytes | str | int | float | Sequence[bytes | str] | Sequence[int] | Sequence[float] | None

# tensorflow/core/example/feature.proto and example.proto
DESCRIPTOR = """
name: "example.proto" package: "tensorflow" syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type {
  name: "Feature" oneof_decl { name: "kind" }
  field { name: "bytes_list" number: 1 type: TYPE_MESSAGE type_name: ".tensorflow.BytesList" oneof_index: 0 }
  field { name: "float_list" number: 2 type: TYPE_MESSAGE type_name: ".tensorflow.FloatList" oneof_index: 0 }
  field { name: "int64_list" number: 3 type: TYPE_MESSAGE type_name: ".tensorflow.Int64List" oneof_index: 0 }
}
message_type {
  name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED type_name: ".tensorflow.Features.FeatureEntry" }
  nested_type {
    name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING }
    field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".tensorflow.Feature" }
  }
}
message_type { name: "Example" field { name: "features" number: 1 type: TYPE_MESSAGE type_name: ".tensorflow.Features" } }
"""


def _build_message_class() -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(DESCRIPTOR, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


Example = _build_message_class()


def encode_example(features: Mapping[str, Value]) -> bytes:
    """Serialize an Example of all features except those that are None; equal features give equal bytes.

    Args:
        features: By name a text, bytes, an integer, a float (rounded to float32, infinite beyond its range), or a list of
            one of these types.
    """
    example = Example()
    entries = example.features.feature
    for name, value in features.items():
        if type(value) is float:  # most features of a purchase
            entries[name].float_list.value.append(value)
        elif type(value) is str:
            entries[name].bytes_list.value.append(value.encode())
        elif value is not None:
            _set_feature(entries[name], value if isinstance(value, (list, tuple)) else (value,))
    return example.SerializeToString(deterministic=True)


def _set_feature(feature: Any, values: Sequence[Any]) -> None:
    first = values[0] if values else b""
    if isinstance(first, float):
        feature.float_list.value.extend(values)
    elif isinstance(first, int):
        feature.int64_list.value.extend(values)
    else:
        feature.bytes_list.value.extend([item.encode() if isinstance(item, str) else item for item in values])


def decode(data: bytes, names: Iterable[str] | None = None) -> dict[str, list[Any]]:
    """Parse a serialized Example into lists of bytes, floats or integers by feature name.

    Args:
        data: The serialized Example.
        names: Names of the features to return, if they exist; None for all.

    Raises:
        ValueError: if ``data`` is not a serialized Example.
    """
    try:
        entries = Example.FromString(data).features.feature
    except DecodeError as error:
        raise ValueError("The data is not a serialized tf.Example.") from error
    return {name: _get_values(entries[name]) for name in (entries if names is None else names) if name in entries}


def _get_values(feature: Any) -> list[Any]:
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value) if kind else []
