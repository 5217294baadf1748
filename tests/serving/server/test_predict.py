"""TensorFlow Serving's interface: requests and responses of Predict over gRPC and REST."""

import base64
import json
import math

import numpy as np
import pytest
import tensorflow as tf
from support.served_client import expect_error
from support.served_models import build_predict_request

pytestmark = pytest.mark.system


def test_grpc_predict_returns_model_spec_and_float_val(client):
    answer = client.stub.Predict(build_predict_request("half", {"x": [[2.0], [4.0]]}), timeout=20)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("half", 2)
    assert answer.model_spec.signature_name == "serving_default"
    tensor = answer.outputs["y"]
    assert list(tensor.float_val) == [3.0, 4.0] and tensor.tensor_content == b""
    np.testing.assert_array_equal(tf.make_ndarray(tensor), [[3.0], [4.0]])


def test_row_and_column_formats_omit_the_name_of_a_single_output(client):
    assert client.post("half:predict", {"instances": [[2.0], [4.0]]}).json() == {"predictions": [[3.0], [4.0]]}
    assert client.post("half:predict", {"instances": [{"x": [2]}]}).json() == {"predictions": [[3.0]]}
    assert client.post("half:predict", {"inputs": [[2.0]]}).json() == {"outputs": [[3.0]]}
    assert client.post("half:predict", {"inputs": {"x": [[2.0]]}}).json() == {"outputs": [[3.0]]}


def test_several_inputs_and_outputs_keep_their_names(client):
    rows = [{"a": 1, "b": [0.5, 0.25]}, {"a": 2, "b": [0, 0]}]
    response = client.post("signatures:predict", {"instances": rows}).json()
    assert response == {"predictions": [{"a": 1, "sum": 3.5}, {"a": 2, "sum": 4.0}]}
    columns = {"a": [1, 2], "b": [[0.5, 0.25], [0, 0]]}
    assert client.post("signatures:predict", {"inputs": columns}).json() == {
        "outputs": {"a": [1, 2], "sum": [3.5, 4.0]}
    }


def test_rest_and_grpc_return_equal_outputs(client):
    values = np.random.default_rng(1).normal(size=(50, 1)).astype(np.float32)
    by_rest = client.post("half:predict", {"signature_name": "two", "inputs": values.tolist()}).json()["outputs"]
    by_grpc = client.stub.Predict(build_predict_request("half", {"x": values}, "two"), timeout=20).outputs
    for name in ("y", "y3"):
        np.testing.assert_array_equal(np.array(by_rest[name], np.float32), tf.make_ndarray(by_grpc[name]))
    np.testing.assert_allclose(by_rest["y"], values / 2 + 2, rtol=1e-6)


def test_tables_are_initialised_from_assets(client):
    assert client.post("half:predict", {"signature_name": "known", "instances": [[1.0]]}).json() == {
        "predictions": [[0]]
    }


def test_bytes_are_base64_and_text_is_text_in_both_directions(client):
    raw = bytes(range(256))
    rows = [{"b64": base64.b64encode(raw).decode()}, "grüße"]
    predictions = client.post("signatures:predict", {"signature_name": "echo", "instances": rows}).json()["predictions"]
    assert base64.b64decode(predictions[0]["raw_bytes"]["b64"]) == raw + raw
    assert predictions[1]["text"] == "grüße"
    assert base64.b64decode(predictions[1]["raw_bytes"]["b64"]).decode() == "grüßegrüße"


def test_white_space_in_base64_is_skipped(client):
    lines = base64.encodebytes(bytes(range(256))).decode()
    rows = [{"b64": lines.replace("\n", "\r\n")}, {"b64": f" {lines.strip().rstrip('=')}\t"}]
    predictions = client.post("signatures:predict", {"signature_name": "echo", "instances": rows}).json()["predictions"]
    assert [base64.b64decode(row["raw_bytes"]["b64"]) for row in predictions] == [bytes(range(256)) * 2] * 2


def test_nan_and_infinity_are_accepted_and_returned(client):
    body = b'{"signature_name": "same", "instances": [NaN, Infinity, -Infinity, 1.5]}'
    predictions = json.loads(client.post("signatures:predict", body).content)["predictions"]
    assert math.isnan(predictions[0]) and predictions[1:] == [math.inf, -math.inf, 1.5]


def test_float32_is_encoded_in_its_shortest_form(client):
    body = b'{"signature_name": "same", "instances": [0.1, NaN]}'
    for sent in (b'{"signature_name": "same", "instances": [0.1]}', body):
        assert b"0.1," in client.post("signatures:predict", sent).content.replace(b"]", b",")


def test_signature_without_batch_axis_needs_the_column_format(client):
    assert client.post("signatures:predict", {"signature_name": "scalar", "inputs": 3}).json() == {"outputs": 6.0}
    response = client.post("signatures:predict", {"signature_name": "scalar", "instances": [3]})
    assert response.status_code == 400


def test_output_filter_selects_outputs_and_refuses_invalid_names(client):
    answer = client.stub.Predict(build_predict_request("half", {"x": [[2.0]]}, "two", only=("y3",)), timeout=20)
    assert set(answer.outputs) == {"y3"}
    code, text = expect_error(client.stub.Predict, build_predict_request("half", {"x": [[2.0]]}, "two", only=("no",)))
    assert code == "INVALID_ARGUMENT" and "output tensor alias not found in signature: no" in text
    code, text = expect_error(
        client.stub.Predict, build_predict_request("half", {"x": [[2.0]]}, "two", only=("y", "y"))
    )
    assert (code, text) == ("INVALID_ARGUMENT", "duplicate output tensor alias")


@pytest.mark.parametrize(
    ("dtype", "value"), [(np.float32, 1.5), (np.int64, -7), (object, b"\xff\x00")], ids=["float", "int", "string"]
)
def test_tensor_proto_with_one_repeated_value_or_bytes_is_decoded(client, dtype, value):
    from serving.server.conversion import tensor_protos

    array = np.full((2, 3), value, dtype)
    np.testing.assert_array_equal(tensor_protos.from_proto("x", tf.make_tensor_proto(array)), array)
    compact = tf.make_tensor_proto(np.full(1, value, dtype))
    compact.tensor_shape.CopyFrom(tf.TensorShape([2, 3]).as_proto())
    np.testing.assert_array_equal(tensor_protos.from_proto("x", compact), array)
