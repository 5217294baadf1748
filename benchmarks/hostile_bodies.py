"""Heavy requests for ``benchmarks.hostile``, and the small model that they are sent to."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serving.server.conversion.wire_values import encode_field, encode_varint
from serving.server.large_requests import MAX_VALUES

MODEL = "m"
SIZE = 60 << 20  # bytes of a body, below the server's limit of 64 MiB
PAIRS = MAX_VALUES // 3 - 10  # pairs of numbers in the largest request in JSON that the server accepts
PREDICT, CLASSIFY = (f"/tensorflow.serving.PredictionService/{name}" for name in ("Predict", "Classify"))


@dataclass(frozen=True)
class Body:
    """A heavy request.

    Attributes:
        name: Name in the table.
        content: The body, or a serialized message.
        encoding: Content-Encoding of the body.
        method: gRPC method; empty for REST.
        path: URL path, if the gateway is asked; empty for the model server.
    """

    name: str
    content: bytes
    encoding: str = "identity"
    method: str = ""
    path: str = ""


def export_model(path: Path) -> None:
    """Export a model with signatures for pairs of numbers, strings, integers and serialized examples."""
    import tensorflow as tf

    class Model(tf.Module):
        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
        def add(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"sum": tf.reduce_sum(x, 1)}

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def echo(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"text": tf.identity(text)}

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.int64, "ids")])
        def count(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"next": ids + 1}

    model = Model()
    signatures = {"serving_default": model.add, "echo": model.echo, "count": model.count}
    tf.saved_model.save(model, str(path), signatures=signatures)


def build_bodies() -> Iterator[Body]:
    """Yield every heavy request."""
    row = b'{"instances": [[1, 2]]'
    numbers = b'{"instances": [' + b"[0.1,0.2]," * (SIZE // 10) + b"[1,2]]}"
    empty = b'{"instances": [' + b"[]," * (SIZE // 3) + b"[]]}"
    yield Body("gzip, spaces", gzip.compress(row + b" " * SIZE + b"}"), "gzip")
    yield Body("gzip, empty lists", gzip.compress(empty), "gzip")
    yield Body("gzip, numbers", gzip.compress(numbers), "gzip")
    yield Body("gzip, beyond the limit", gzip.compress(row + b" " * 10 * SIZE + b"}"), "gzip")
    yield Body("spaces", row + b" " * SIZE + b"}")
    yield Body("numbers", numbers)
    yield Body("numbers, accepted", b'{"instances": [' + b"[0.1,0.2]," * PAIRS + b"[1,2]]}")
    yield Body("NaN, accepted", b'{"instances": [' + b"[NaN,0.12]," * PAIRS + b"[1,2]]}")
    yield Body("deep lists", b'{"instances": ' + b"[" * (SIZE // 2) + b"]" * (SIZE // 2) + b"}")
    text = "😀".encode() + b"a" * SIZE
    yield Body("one string", b'{"signature_name": "echo", "instances": ["' + text + b'"]}')
    yield Body("name of a signature", b'{"instances": [1], "signature_name": "' + b"a" * SIZE + b'"}')
    yield Body("gRPC, floats", _build_predict(1, [SIZE // 8, 2], 4, bytes(SIZE)), method=PREDICT)
    yield Body("gRPC, list of floats", _build_predict(1, [SIZE // 8, 2], 5, bytes(SIZE)), method=PREDICT)
    yield Body("gRPC, integers", _build_predict(9, [SIZE], 10, bytes(SIZE), "ids", "count"), method=PREDICT)
    strings = b"\x42\x00" * (SIZE // 2)
    yield Body("gRPC, empty strings", _build_predict(7, [SIZE // 2], 0, strings, "text", "echo"), method=PREDICT)
    yield Body("gRPC, repeated value", _build_predict(9, [(1 << 20) - 1], 10, b"\x01", "ids", "count"), method=PREDICT)
    examples = encode_field(2, encode_field(1, b"\x0a\x00" * (SIZE // 2)))
    yield Body("gRPC, empty examples", _encode_spec("") + examples, method=CLASSIFY)


def _build_predict(
    dtype: int, shape: list[int], field: int, values: bytes, name: str = "x", signature: str = ""
) -> bytes:
    """Serialize a ``PredictRequest`` with one input, whose values are ``values`` in a field of its ``TensorProto``."""
    dims = b"".join(encode_field(2, b"\x08" + encode_varint(size)) for size in shape)
    content = encode_field(field, values) if field else values
    tensor = b"\x08" + encode_varint(dtype) + encode_field(2, dims) + content
    return _encode_spec(signature) + encode_field(2, encode_field(1, name.encode()) + encode_field(2, tensor))


def _encode_spec(signature: str) -> bytes:
    return encode_field(1, encode_field(1, MODEL.encode()) + encode_field(3, signature.encode()))
