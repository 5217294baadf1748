"""Large requests: limits on bytes and values, conversion outside the event loop, and results equal to those of small ones."""

import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from support.served_client import ModelServerClient, expect_error
from support.served_models import POLL, build_predict_request, run_model_server, wait_until
from tensorflow_serving.apis import classification_pb2, model_management_pb2

from serving.http.byte_budget import SMALL_BODY
from serving.server.app import ServerOptions
from serving.server.config import ModelConfig
from serving.server.conversion import json_tensors
from serving.server.conversion.wire_values import encode_field

pytestmark = pytest.mark.system
MAX_BODY, MAX_VALUES = 1 << 20, 50_000
ROWS = 20_000  # of one number each: more than SMALL_BODY bytes


@pytest.fixture(scope="module")
def client(served_folder: Path) -> Iterator[ModelServerClient]:
    options = ServerOptions(
        [ModelConfig(name, str(served_folder / name)) for name in ("half", "signatures")],
        grpc_port=0,
        rest_port=0,
        poll=POLL,
        max_body=MAX_BODY,
        max_inflight=MAX_BODY,
        max_values=MAX_VALUES,
    )
    with run_model_server(options) as app:
        client = ModelServerClient(app)
        yield client
        client.close()
        wait_until(lambda: app.large.budget.used == 0)


def post_gzip(client: ModelServerClient, path: str, content: bytes) -> httpx.Response:
    return client.http.post(f"/v1/models/{path}", content=content, headers={"content-encoding": "gzip"})


def test_large_rest_request_gets_the_answer_of_small_ones(client):
    values = [[n / 8] for n in range(ROWS)]
    document = json.dumps({"instances": values}).encode()
    assert len(document) > SMALL_BODY
    expected = [[value / 2 + 3] for (value,) in values]
    assert client.post("half:predict", document).json()["predictions"] == expected
    assert client.post("half:predict", {"inputs": {"x": values}}).json()["outputs"] == expected
    assert post_gzip(client, "half:predict", gzip.compress(document)).json()["predictions"] == expected
    texts = [f"text number {n}" for n in range(ROWS)]
    response = client.post("signatures:predict", {"signature_name": "echo", "instances": texts}).json()["predictions"]
    assert [row["text"] for row in response] == texts
    document = {"signature_name": "classify_x_to_y", "examples": [{"x": n / 8} for n in range(ROWS // 2)]}
    results = client.post("half:classify", document).json()["results"]
    assert [row[0][1] for row in results] == [n / 16 + 3 for n in range(ROWS // 2)]


def test_large_grpc_request_gets_the_answer_of_small_ones(client):
    values = np.arange(ROWS, dtype=np.float32)[:, None] / 8
    request = build_predict_request("half", {"x": values})
    assert request.ByteSize() > SMALL_BODY
    answer = client.stub.Predict(request, timeout=60)
    np.testing.assert_array_equal(answer.outputs["y"].float_val, values[:, 0] / 2 + 3)
    request.inputs["x"].tensor_content = b""
    request.inputs["x"].float_val.extend(values[:, 0])
    assert client.stub.Predict(request, timeout=60) == answer
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "half", "classify_x_to_y"
    for n in range(4000):
        request.input.example_list.examples.add().features.feature["x"].float_list.value.append(n / 8)
    assert request.ByteSize() > SMALL_BODY
    result = client.stub.Classify(request, timeout=60).result
    assert [row.classes[0].score for row in result.classifications] == [n / 16 + 3 for n in range(4000)]


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        ("[]," * (MAX_VALUES // 2) + "[]", f"more than {MAX_VALUES} values"),
        ("{}," * (MAX_VALUES // 2) + "{}", f"more than {MAX_VALUES} values"),
        ("[1.25]," * ROWS + "[]", "unexpected size in input x"),
        ("[1.25]," * ROWS + "2", "unexpected size in input x"),
        ("[[1.25]]," * (ROWS // 2) + "[[1]]", f"has shape [{ROWS // 2 + 1},1,1], expected is [?,1]"),
        ("1.25," * ROWS + "1", f"has shape [{ROWS + 1}], expected is [?,1]"),
        ('["a12345"],' * ROWS + '["b"]', "not of expected type: float32"),
        ('"' + "a" * SMALL_BODY, "JSON Parse error"),
    ],
    ids=["empty lists", "empty objects", "ragged", "mixed", "too deep", "too flat", "strings", "not closed"],
)
def test_large_request_that_is_no_tensor_is_refused_with_the_reason(client, instances, message):
    content = b'{"instances": [' + instances.encode() + b"]}"
    assert len(content) > SMALL_BODY
    for response in (client.post("half:predict", content), post_gzip(client, "half:predict", gzip.compress(content))):
        assert response.status_code == 400 and message in response.json()["error"]


def test_gzip_body_that_lies_about_its_size_is_refused(client):
    packed = gzip.compress(b'{"instances": [[1]]}' + b" " * SMALL_BODY)
    for size in (10, 10 * SMALL_BODY):
        response = post_gzip(client, "half:predict", packed[:-4] + size.to_bytes(4, "little"))
        assert response.status_code == 400 and "gzip" in response.json()["error"]
    assert post_gzip(client, "half:predict", packed + gzip.compress(b"")).status_code == 400
    response = post_gzip(client, "half:predict", gzip.compress(b" " * (MAX_BODY + 1)))
    assert response.status_code == 400 and f"larger than {MAX_BODY} bytes" in response.json()["error"]


def test_content_encoding_other_than_gzip_is_a_415(client):
    response = client.http.post("/v1/models/half:predict", content=b"a", headers={"content-encoding": "br"})
    assert response.status_code == 415 and response.headers["accept-encoding"] == "gzip"


def test_health_is_answered_and_others_get_503_while_a_large_request_is_converted(client, monkeypatch):
    parse, converting, finish = json_tensors.parse, threading.Event(), threading.Event()

    def wait_and_parse(body):
        converting.set()
        assert finish.wait(60)
        return parse(body)

    monkeypatch.setattr(json_tensors, "parse", wait_and_parse)
    packed = gzip.compress(b'{"instances": [[2]]}' + b" " * (MAX_BODY - 100))
    answers = []
    with ModelServerClientThread(client, packed, answers):
        assert converting.wait(60)
        assert client.http.get("/v1/models/half").status_code == 200
        response = post_gzip(client, "half:predict", packed)
        assert response.status_code == 503 and response.headers["retry-after"] == "1"
        assert "bytes of requests are under way" in response.json()["error"]
        request = build_predict_request("half", {"x": np.zeros((ROWS, 1), np.float32)})
        assert expect_error(client.stub.Predict, request)[0] == "UNAVAILABLE"
        small = build_predict_request("half", {"x": [[2.0]]})
        assert client.stub.Predict(small, timeout=60).outputs["y"].float_val[0] == 4.0
        finish.set()
    assert answers[0].json() == {"predictions": [[4.0]]}


class ModelServerClientThread(threading.Thread):
    """Posts a gzip body while the context is open."""

    def __init__(self, client: ModelServerClient, packed: bytes, answers: list[httpx.Response]) -> None:
        url = f"http://127.0.0.1:{client.app.rest_port}/v1/models/half:predict"
        headers = {"content-encoding": "gzip"}
        super().__init__(target=lambda: answers.append(httpx.post(url, content=packed, headers=headers, timeout=120)))

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *error: object) -> None:
        self.join()


MANY = MAX_VALUES + 1
MESSAGES = {
    "empty strings": ("Predict", encode_field(2, encode_field(2, b"\x42\x00" * MANY))),
    "integers": ("Predict", encode_field(2, encode_field(2, encode_field(10, b"\x01" * SMALL_BODY * 2)))),
    "empty inputs": ("Predict", b"\x12\x00" * MANY),
    "unknown fields": ("Predict", b"\xf8\x07\x00" * MANY),
    "empty examples": ("Classify", encode_field(2, encode_field(1, b"\x0a\x00" * MANY))),
    "tasks": ("MultiInference", b"\x0a\x00" * MANY),
    "fields of metadata": ("GetModelMetadata", b"\x12\x00" * MANY),
}


@pytest.mark.parametrize(("method", "message"), list(MESSAGES.values()), ids=list(MESSAGES))
def test_message_with_too_many_values_is_refused_before_it_is_parsed(client, method, message):
    call = client.channel.unary_unary(f"/tensorflow.serving.PredictionService/{method}")
    code, text = expect_error(call, message)
    assert code == "INVALID_ARGUMENT" and f"more than {MAX_VALUES} values" in text


def test_malformed_message_is_an_internal_error(client):
    for service, method in (("PredictionService", "Predict"), ("ModelService", "GetModelStatus")):
        call = client.channel.unary_unary(f"/tensorflow.serving.{service}/{method}")
        code, text = expect_error(call, b"\xff")
        assert code == "INTERNAL" and text.startswith("The request is not a")


def test_repeated_value_fills_few_tensors(client):
    request = build_predict_request("half", {})
    for n in range(40):
        tensor = request.inputs[f"x{n}"]
        tensor.dtype, tensor.int64_val[:] = 9, [1]
        tensor.tensor_shape.dim.add(size=1 << 19)
    code, text = expect_error(client.stub.Predict, request)
    assert code == "INVALID_ARGUMENT" and "Repeated values fill more than" in text


def test_config_larger_than_its_limit_is_refused(client):
    request = model_management_pb2.ReloadConfigRequest()
    for n in range(60_000):
        request.config.model_config_list.config.add(name=f"model-{n}", base_path="/m")
    with pytest.raises(grpc.RpcError) as caught:
        client.models.HandleReloadConfigRequest(request, timeout=60)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_only_few_messages_arrive_slowly_and_the_others_are_answered(client):
    """Two calls send no message; there is a place for one. Calls whose message arrives at once need no place."""
    calls = [client.channel.stream_unary("/tensorflow.serving.PredictionService/Predict") for _ in range(2)]
    never, errors = threading.Event(), []

    def wait_for_event() -> Iterator[bytes]:
        never.wait(60)
        yield from ()

    futures = [call.future(wait_for_event(), timeout=60) for call in calls]
    try:
        wait_until(lambda: any(future.done() for future in futures))
        errors = [future.exception() for future in futures if future.done()]
        assert [error.code() for error in errors] == [grpc.StatusCode.UNAVAILABLE]
        assert "large messages are under way already" in errors[0].details()
        small = build_predict_request("half", {"x": [[2.0]]})
        assert client.stub.Predict(small, timeout=60).outputs["y"].float_val[0] == 4.0
    finally:
        for future in futures:
            future.cancel()
        never.set()
    large = build_predict_request("half", {"x": np.zeros((ROWS, 1), np.float32)})
    assert len(client.stub.Predict(large, timeout=60).outputs["y"].float_val) == ROWS
