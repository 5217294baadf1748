"""TensorFlow Serving's interface: error status and messages, limits and deadlines."""

import grpc
import httpx
import numpy as np
import pytest
from support.served_client import MAX_BODY, expect_error
from support.served_models import POLL, build_predict_request, run_model_server

from serving.server.app import ServerOptions
from serving.server.config import ModelConfig
from serving.status_errors import HTTP, ServingError

pytestmark = pytest.mark.system


def test_unknown_model_or_version_returns_tensorflow_servings_error(client):
    assert expect_error(client.stub.Predict, build_predict_request("nope", {"x": 1.0})) == (
        "NOT_FOUND",
        "Servable not found for request: Latest(nope)",
    )
    assert expect_error(client.stub.Predict, build_predict_request("half", {"x": 1.0}, version=9)) == (
        "NOT_FOUND",
        "Servable not found for request: Specific(half, 9)",
    )
    response = client.post("nope:predict", {"instances": [1]})
    assert (response.status_code, response.json()) == (404, {"error": "Servable not found for request: Latest(nope)"})
    response = client.post("half/versions/9:predict", {"instances": [1]})
    assert (response.status_code, response.json()) == (
        404,
        {"error": "Servable not found for request: Specific(half, 9)"},
    )


def test_unknown_signature_input_or_label_is_refused(client):
    code, text = expect_error(client.stub.Predict, build_predict_request("half", {"x": [[1.0]]}, "no"))
    assert (code, text) == ("FAILED_PRECONDITION", 'Serving signature key "no" not found.')
    assert client.post("half:predict", {"signature_name": "no", "instances": [[1]]}).status_code == 400
    code, text = expect_error(client.stub.Predict, build_predict_request("half", {"z": [[1.0]]}))
    assert code == "INVALID_ARGUMENT" and "Sent extra: {z}. Missing but required: {x}." in text
    code, text = expect_error(client.stub.Predict, build_predict_request("half", {"x": [[1.0]]}, label="odd"))
    assert (code, text) == ("INVALID_ARGUMENT", "Unrecognized servable version label: odd")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"nul",
        b'{"instances": []}',
        b'{"instances": 1}',
        b"{}",
        b'{"instances": [[1]], "inputs": [[1]]}',
        b'{"instances": [[1], [1, 2]]}',
        b'{"instances": [["a"]]}',
        b'{"instances": [[null]]}',
        b'{"instances": [{"z": 1}]}',
        b'{"instances": [[true]]}',
        b'{"instances": [1]}',
        b'{"instances": [{"b64": "AA=="}]}',
        b'{"inputs": {"x": {}}}',
        b'{"signature_name": 5, "instances": [[1]]}',
        b"[" * 100_000,
        b'{"instances": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"instances": [NaN,' + b"[" * 5000,
        b"\xff\xfe",
        b'{"inputs": {"x": [[1]], "q": 2}}',
    ],
)
def test_invalid_json_returns_400_with_a_reason(client, body):
    response = client.post("half:predict", body)
    assert response.status_code == 400 and response.json()["error"]


@pytest.mark.parametrize(
    "rows",
    [
        [{"a": 1.5, "b": [1, 2]}],
        [{"a": 2**63, "b": [1, 2]}],
        [{"a": 1}],
        [{"a": 1, "b": [1, 2], "c": 3}],
        [1],
        [{}],
        [{"a": "1", "b": [1, 2]}],
        [{"a": 1, "b": [1, 2]}, {"a": 1, "b": [1]}],
        [{"a": True, "b": [1, 2]}],
    ],
)
def test_invalid_rows_of_several_inputs_return_400(client, rows):
    assert client.post("signatures:predict", {"instances": rows}).status_code == 400


@pytest.mark.parametrize(
    "value", ["text", {"b64": "!"}, {"b64": "AA", "more": 1}, {"b64": 5}, 3, None, ["a", ["b"]]], ids=str
)
def test_strings_are_accepted_and_other_values_return_400(client, value):
    response = client.post("signatures:predict", {"signature_name": "echo", "instances": [value, value]})
    assert response.status_code == (200 if value == "text" else 400)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "half:predict"),
        ("POST", "half"),
        ("POST", "half:explain"),
        ("GET", ""),
        ("GET", "half/versions/x"),
        ("DELETE", "half"),
        ("GET", "half/versions/1/labels/stable"),
        ("POST", "half/metadata"),
    ],
)
def test_unknown_path_or_method_is_a_malformed_request(client, method, path):
    response = client.http.request(method, f"/v1/models/{path}")
    assert response.status_code == 400 and response.json()["error"].startswith(
        f"Malformed request: {method} /v1/models/"
    )
    assert client.http.get("/elsewhere").status_code == 404


def test_status_names_map_to_http_codes(client):
    expected = {
        "NOT_FOUND": 404,
        "RESOURCE_EXHAUSTED": 429,
        "DEADLINE_EXCEEDED": 504,
        "UNAVAILABLE": 503,
        "UNIMPLEMENTED": 501,
        "INVALID_ARGUMENT": 400,
        "FAILED_PRECONDITION": 400,
        "OUT_OF_RANGE": 400,
    }
    assert {name: ServingError(name, "").http for name in expected} == expected
    assert set(HTTP) == {code.name for code in grpc.StatusCode} - {"OK"}


def test_inconsistent_tensor_is_refused(client):
    for change in (
        lambda t: t.tensor_shape.dim[0].__setattr__("size", 5_000_000_000),
        lambda t: t.tensor_shape.dim[0].__setattr__("size", -1),
        lambda t: t.__setattr__("dtype", 20),
        lambda t: t.__setattr__("tensor_content", b"abc"),
        lambda t: t.ClearField("float_val"),
    ):
        request = build_predict_request("half", {"x": [[1.0], [2.0]]})
        tensor = request.inputs["x"]
        tensor.tensor_content, tensor.float_val[:] = b"", [1.0, 2.0]
        change(tensor)
        assert expect_error(client.stub.Predict, request)[0] == "INVALID_ARGUMENT"


def test_wrong_type_or_shape_is_refused_before_the_model_runs(client):
    assert expect_error(client.stub.Predict, build_predict_request("half", {"x": [["a"]]}))[0] == "INVALID_ARGUMENT"
    assert (
        expect_error(client.stub.Predict, build_predict_request("signatures", {"x": 1.0}, "same"))[0]
        == "INVALID_ARGUMENT"
    )
    assert client.post("signatures:predict", {"signature_name": "same", "inputs": 1.0}).status_code == 400
    code, text = expect_error(client.stub.Predict, build_predict_request("half", {"x": [[1.0, 2.0]]}))
    assert code == "INVALID_ARGUMENT" and "expected is [?,1]" in text


def test_model_error_fails_only_its_own_request(client):
    import threading

    results: dict[float, int] = {}

    def send_request(value: float) -> None:
        body = {"signature_name": "positive", "instances": [value]}
        results[value] = client.post("signatures:predict", body).status_code

    threads = [threading.Thread(target=send_request, args=(value,)) for value in [*map(float, range(12)), -1.0]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.pop(-1.0) == 400 and set(results.values()) == {200}


def test_large_request_is_refused_over_grpc_and_rest(client):
    assert client.post("half:predict", b" " * (MAX_BODY + 1)).status_code == 413
    code, _ = expect_error(
        client.stub.Predict, build_predict_request("half", {"x": np.zeros((MAX_BODY // 4, 1), np.float32)})
    )
    assert code == "RESOURCE_EXHAUSTED"


def test_gzip_body_is_decompressed_up_to_the_limit(client):
    import gzip

    def send(content: bytes) -> int:
        return client.http.post(
            "/v1/models/half:predict", content=content, headers={"content-encoding": "gzip"}
        ).status_code

    assert send(gzip.compress(b'{"instances": [[1]]}')) == 200
    assert send(gzip.compress(b" " * (MAX_BODY + 1))) == 400
    assert send(b"no gzip") == 400


def test_expired_deadline_does_not_stop_the_server(client):
    slow = build_predict_request("signatures", {"turns": np.array([2000], np.int32)}, "slow")
    assert expect_error(client.stub.Predict, slow, timeout=0.05)[0] == "DEADLINE_EXCEEDED"
    assert client.post("half:predict", {"instances": [[2.0]]}).status_code == 200


def test_expired_rest_deadline_returns_504(served_folder):
    options = ServerOptions(
        [ModelConfig("signatures", str(served_folder / "signatures"))],
        grpc_port=None,
        rest_port=0,
        poll=POLL,
        rest_timeout=0.05,
    )
    with (
        run_model_server(options) as app,
        httpx.Client(base_url=f"http://127.0.0.1:{app.rest_port}", timeout=120) as client,
    ):
        response = client.post("/v1/models/signatures:predict", json={"signature_name": "slow", "instances": [2000]})
        assert response.status_code == 504 and response.json() == {"error": "Deadline Exceeded"}
