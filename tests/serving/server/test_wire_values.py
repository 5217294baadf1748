"""Values of a serialized message are counted before it is parsed."""

from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2

from serving.server.conversion import wire_values

LIMIT = 10_000
DESCRIPTOR = predict_pb2.PredictRequest.DESCRIPTOR


def build_request(**fields) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    for name, values in fields.items():
        getattr(request.inputs["x"], name).extend(values)
    return request


def count(request: predict_pb2.PredictRequest, limit: int = LIMIT) -> int:
    return wire_values.count_values(request.SerializeToString(), DESCRIPTOR, limit)


def test_strings_messages_and_integers_are_counted_and_floats_are_not():
    base = count(build_request(float_val=[1.0]))
    assert count(build_request(float_val=range(100))) == base
    assert count(build_request(string_val=[b"a"] * 100)) == base + 99
    assert count(build_request(int64_val=[1, -1, 1 << 40] * 10)) == base + 30
    assert count(build_request(bool_val=[True] * 70)) == base + 70
    request = build_request(float_val=[1.0])
    request.inputs["x"].tensor_content = b"\x01" * 5000
    request.output_filter.extend(["a"] * 10)
    assert count(request) == base + 11


def test_count_ends_beyond_the_limit():
    request = build_request(string_val=[b""] * 5000)
    assert count(request, 100) == 101


@given(st.binary(max_size=200))
def test_any_bytes_are_counted_and_those_of_a_message_completely(message):
    counted = wire_values.count_values(message, DESCRIPTOR, LIMIT)
    assert 0 <= counted <= len(message)
    try:
        request = predict_pb2.PredictRequest.FromString(message)
    except DecodeError:
        return
    assert counted >= len(request.inputs) + len(request.output_filter)
