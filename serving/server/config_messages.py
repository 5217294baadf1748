"""TensorFlow Serving's messages for batching and monitoring, of which ``tensorflow-serving-api`` has no definitions.

The definitions are those of ``session_bundle_config.proto`` and ``monitoring_config.proto``.
"""

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

PACKAGE = "tensorflow.serving"
Field = descriptor_pb2.FieldDescriptorProto
# Message: name, number and type of each field; a name that starts with a dot is a message, a list is a repeated field.
MESSAGES: dict[str, list[tuple[str, int, Any]]] = {
    "BatchingParameters": [
        ("max_batch_size", 1, ".google.protobuf.Int64Value"),
        ("batch_timeout_micros", 2, ".google.protobuf.Int64Value"),
        ("max_enqueued_batches", 3, ".google.protobuf.Int64Value"),
        ("num_batch_threads", 4, ".google.protobuf.Int64Value"),
        ("thread_pool_name", 5, ".google.protobuf.StringValue"),
        ("allowed_batch_sizes", 6, [Field.TYPE_INT64]),
        ("pad_variable_length_inputs", 7, Field.TYPE_BOOL),
        ("enable_large_batch_splitting", 8, ".google.protobuf.BoolValue"),
        ("max_execution_batch_size", 9, ".google.protobuf.Int64Value"),
    ],
    "PrometheusConfig": [("enable", 1, Field.TYPE_BOOL), ("path", 2, Field.TYPE_STRING)],
    "MonitoringConfig": [("prometheus_config", 1, f".{PACKAGE}.PrometheusConfig")],
}


def create_message(name: str) -> Any:
    """Return an empty message of the type with that name in ``MESSAGES``."""
    return message_factory.GetMessageClass(_build_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))()


@cache
def _build_pool() -> descriptor_pool.DescriptorPool:
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    file = descriptor_pb2.FileDescriptorProto(
        name="config_messages.proto", package=PACKAGE, syntax="proto3", dependency=[wrappers.name]
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            _add_field(message, field_name, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(wrappers)
    pool.Add(file)
    return pool


def _add_field(message: Any, name: str, number: int, kind: Any) -> None:
    label = Field.LABEL_REPEATED if isinstance(kind, list) else Field.LABEL_OPTIONAL
    (kind,) = kind if isinstance(kind, list) else (kind,)
    field = message.field.add(name=name, number=number, label=label)
    if isinstance(kind, str):
        field.type, field.type_name = Field.TYPE_MESSAGE, kind
    else:
        field.type = kind
