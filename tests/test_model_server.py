"""The contract of TensorFlow Serving, point by point, with its own gRPC stubs and a plain HTTP client."""

import base64
import json
import math
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from prometheus_client.parser import text_string_to_metric_families
from served_models import POLL, doors, half_plus, predict, serving, until, warm
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.app import Options
from serving.config import Batching, Model
from serving.errors import HTTP, ServingError

MAX_BODY = 1 << 20


class Client:
    """Both interfaces of one server."""

    def __init__(self, app) -> None:
        self.app = app
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{app.rest_port}", timeout=120)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{app.grpc_port}")
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def post(self, path: str, document: object) -> httpx.Response:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.http.post(f"/v1/models/{path}", content=content)

    def close(self) -> None:
        self.http.close()
        self.channel.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("models")
    for version, add in ((1, 1.0), (2, 2.0), (3, 3.0)):
        half_plus(base / "half" / str(version), add)
    doors(base / "doors" / "1")
    return base


@pytest.fixture(scope="module")
def client(folder):
    models = [
        Model("half", str(folder / "half"), "specific", specific=(1, 2), labels={"stable": 1, "canary": 2}),
        Model("doors", str(folder / "doors")),
    ]
    with serving(Options(models, grpc_port=0, rest_port=0, poll=POLL, max_body=MAX_BODY)) as app:
        client = Client(app)
        yield client
        client.close()


def error(call, *arguments, **named) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=named.pop("timeout", 20), **named)
    return caught.value.code().name, caught.value.details()


# Predict.


def test_grpc_predict_answers_with_the_model_spec_and_float_val(client):
    answer = client.stub.Predict(predict("half", {"x": [[2.0], [4.0]]}), timeout=20)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("half", 2)
    assert answer.model_spec.signature_name == "serving_default"
    tensor = answer.outputs["y"]
    assert list(tensor.float_val) == [3.0, 4.0] and tensor.tensor_content == b""
    np.testing.assert_array_equal(tf.make_ndarray(tensor), [[3.0], [4.0]])


def test_rows_and_columns_and_a_single_name_is_left_out(client):
    assert client.post("half:predict", {"instances": [[2.0], [4.0]]}).json() == {"predictions": [[3.0], [4.0]]}
    assert client.post("half:predict", {"instances": [{"x": [2]}]}).json() == {"predictions": [[3.0]]}
    assert client.post("half:predict", {"inputs": [[2.0]]}).json() == {"outputs": [[3.0]]}
    assert client.post("half:predict", {"inputs": {"x": [[2.0]]}}).json() == {"outputs": [[3.0]]}


def test_several_inputs_and_outputs_keep_their_names(client):
    rows = [{"a": 1, "b": [0.5, 0.25]}, {"a": 2, "b": [0, 0]}]
    found = client.post("doors:predict", {"instances": rows}).json()
    assert found == {"predictions": [{"a": 1, "sum": 3.5}, {"a": 2, "sum": 4.0}]}
    columns = {"a": [1, 2], "b": [[0.5, 0.25], [0, 0]]}
    assert client.post("doors:predict", {"inputs": columns}).json() == {"outputs": {"a": [1, 2], "sum": [3.5, 4.0]}}


def test_rest_and_grpc_agree(client):
    values = np.random.default_rng(1).normal(size=(50, 1)).astype(np.float32)
    by_rest = client.post("half:predict", {"signature_name": "two", "inputs": values.tolist()}).json()["outputs"]
    by_grpc = client.stub.Predict(predict("half", {"x": values}, "two"), timeout=20).outputs
    for name in ("y", "y3"):
        np.testing.assert_array_equal(np.array(by_rest[name], np.float32), tf.make_ndarray(by_grpc[name]))
    np.testing.assert_allclose(by_rest["y"], values / 2 + 2, rtol=1e-6)


def test_tables_are_initialised_from_assets(client):
    assert client.post("half:predict", {"signature_name": "known", "instances": [[1.0]]}).json() == {
        "predictions": [[0]]
    }


def test_bytes_come_and_go_as_b64_and_text_as_text(client):
    raw = bytes(range(256))
    rows = [{"b64": base64.b64encode(raw).decode()}, "grüße"]
    found = client.post("doors:predict", {"signature_name": "echo", "instances": rows}).json()["predictions"]
    assert base64.b64decode(found[0]["raw_bytes"]["b64"]) == raw + raw
    assert found[1]["text"] == "grüße"
    assert base64.b64decode(found[1]["raw_bytes"]["b64"]).decode() == "grüßegrüße"


def test_nan_and_infinity_pass_both_ways(client):
    body = b'{"signature_name": "same", "instances": [NaN, Infinity, -Infinity, 1.5]}'
    found = json.loads(client.post("doors:predict", body).content)["predictions"]
    assert math.isnan(found[0]) and found[1:] == [math.inf, -math.inf, 1.5]


def test_float32_is_written_in_its_shortest_form(client):
    body = b'{"signature_name": "same", "instances": [0.1, NaN]}'
    for sent in (b'{"signature_name": "same", "instances": [0.1]}', body):
        assert b"0.1," in client.post("doors:predict", sent).content.replace(b"]", b",")


def test_a_signature_without_batch_is_answered_by_columns(client):
    assert client.post("doors:predict", {"signature_name": "scalar", "inputs": 3}).json() == {"outputs": 6.0}
    refused = client.post("doors:predict", {"signature_name": "scalar", "instances": [3]})
    assert refused.status_code == 400


def test_output_filter_chooses_and_refuses(client):
    answer = client.stub.Predict(predict("half", {"x": [[2.0]]}, "two", only=("y3",)), timeout=20)
    assert set(answer.outputs) == {"y3"}
    code, text = error(client.stub.Predict, predict("half", {"x": [[2.0]]}, "two", only=("no",)))
    assert code == "INVALID_ARGUMENT" and "output tensor alias not found in signature: no" in text
    code, text = error(client.stub.Predict, predict("half", {"x": [[2.0]]}, "two", only=("y", "y")))
    assert (code, text) == ("INVALID_ARGUMENT", "duplicate output tensor alias")


@pytest.mark.parametrize(
    ("dtype", "value"), [(np.float32, 1.5), (np.int64, -7), (object, b"\xff\x00")], ids=["float", "int", "string"]
)
def test_tensors_in_one_value_stand_for_all_and_in_bytes_for_themselves(client, dtype, value):
    from serving import tensors

    whole = np.full((2, 3), value, dtype)
    np.testing.assert_array_equal(tensors.from_proto("x", tf.make_tensor_proto(whole)), whole)
    one = tf.make_tensor_proto(np.full(1, value, dtype))
    one.tensor_shape.CopyFrom(tf.TensorShape([2, 3]).as_proto())
    np.testing.assert_array_equal(tensors.from_proto("x", one), whole)


# Errors.


def test_unknown_models_and_versions_have_tensorflow_servings_words(client):
    assert error(client.stub.Predict, predict("nope", {"x": 1.0})) == (
        "NOT_FOUND", "Servable not found for request: Latest(nope)")  # fmt: skip
    assert error(client.stub.Predict, predict("half", {"x": 1.0}, version=9)) == (
        "NOT_FOUND", "Servable not found for request: Specific(half, 9)")  # fmt: skip
    found = client.post("nope:predict", {"instances": [1]})
    assert (found.status_code, found.json()) == (404, {"error": "Servable not found for request: Latest(nope)"})
    found = client.post("half/versions/9:predict", {"instances": [1]})
    assert (found.status_code, found.json()) == (404, {"error": "Servable not found for request: Specific(half, 9)"})


def test_unknown_signatures_inputs_and_labels(client):
    code, text = error(client.stub.Predict, predict("half", {"x": [[1.0]]}, "no"))
    assert (code, text) == ("FAILED_PRECONDITION", 'Serving signature key "no" not found.')
    assert client.post("half:predict", {"signature_name": "no", "instances": [[1]]}).status_code == 400
    code, text = error(client.stub.Predict, predict("half", {"z": [[1.0]]}))
    assert code == "INVALID_ARGUMENT" and "Sent extra: {z}. Missing but required: {x}." in text
    code, text = error(client.stub.Predict, predict("half", {"x": [[1.0]]}, label="odd"))
    assert (code, text) == ("INVALID_ARGUMENT", "Unrecognized servable version label: odd")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"nul", b'{"instances": []}', b'{"instances": 1}', b"{}", b'{"instances": [[1]], "inputs": [[1]]}',
        b'{"instances": [[1], [1, 2]]}', b'{"instances": [["a"]]}', b'{"instances": [[null]]}', b'{"instances": [{"z": 1}]}',
        b'{"instances": [[true]]}', b'{"instances": [1]}', b'{"instances": [{"b64": "AA=="}]}', b'{"inputs": {"x": {}}}',
        b'{"signature_name": 5, "instances": [[1]]}', b"[" * 100_000, b'{"instances": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"instances": [NaN,' + b"[" * 5000, b"\xff\xfe", b'{"inputs": {"x": [[1]], "q": 2}}',
    ],
)  # fmt: skip
def test_json_that_is_no_request_is_a_400_that_says_so(client, body):
    found = client.post("half:predict", body)
    assert found.status_code == 400 and found.json()["error"]


@pytest.mark.parametrize(
    "rows",
    [[{"a": 1.5, "b": [1, 2]}], [{"a": 2**63, "b": [1, 2]}], [{"a": 1}], [{"a": 1, "b": [1, 2], "c": 3}], [1], [{}],
     [{"a": "1", "b": [1, 2]}], [{"a": 1, "b": [1, 2]}, {"a": 1, "b": [1]}], [{"a": True, "b": [1, 2]}]],
)  # fmt: skip
def test_rows_of_several_inputs_are_checked(client, rows):
    assert client.post("doors:predict", {"instances": rows}).status_code == 400


@pytest.mark.parametrize(
    "value", ["text", {"b64": "!"}, {"b64": "AA", "more": 1}, {"b64": 5}, 3, None, ["a", ["b"]]], ids=str
)
def test_strings_are_checked(client, value):
    found = client.post("doors:predict", {"signature_name": "echo", "instances": [value, value]})
    assert found.status_code == (200 if value == "text" else 400)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "half:predict"), ("POST", "half"), ("POST", "half:explain"), ("GET", ""), ("GET", "half/versions/x"),
     ("DELETE", "half"), ("GET", "half/versions/1/labels/stable"), ("POST", "half/metadata")],
)  # fmt: skip
def test_paths_that_are_not_in_the_interface(client, method, path):
    found = client.http.request(method, f"/v1/models/{path}")
    assert found.status_code == 400 and found.json()["error"].startswith(f"Malformed request: {method} /v1/models/")
    assert client.http.get("/elsewhere").status_code == 404


def test_the_status_map(client):
    expected = {"NOT_FOUND": 404, "RESOURCE_EXHAUSTED": 429, "DEADLINE_EXCEEDED": 504, "UNAVAILABLE": 503, "UNIMPLEMENTED": 501,
                "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400}  # fmt: skip
    assert {name: ServingError(name, "").http for name in expected} == expected
    assert set(HTTP) == {code.name for code in grpc.StatusCode} - {"OK"}


def test_contradicting_tensors_are_refused(client):
    for change in (
        lambda t: t.tensor_shape.dim[0].__setattr__("size", 5_000_000_000),
        lambda t: t.tensor_shape.dim[0].__setattr__("size", -1),
        lambda t: t.__setattr__("dtype", 20),
        lambda t: t.__setattr__("tensor_content", b"abc"),
        lambda t: t.ClearField("float_val"),
    ):
        request = predict("half", {"x": [[1.0], [2.0]]})
        tensor = request.inputs["x"]
        tensor.tensor_content, tensor.float_val[:] = b"", [1.0, 2.0]
        change(tensor)
        assert error(client.stub.Predict, request)[0] == "INVALID_ARGUMENT"


def test_a_wrong_type_or_shape_is_refused_before_the_model(client):
    assert error(client.stub.Predict, predict("half", {"x": [["a"]]}))[0] == "INVALID_ARGUMENT"
    assert error(client.stub.Predict, predict("doors", {"x": 1.0}, "same"))[0] == "INVALID_ARGUMENT"
    assert client.post("doors:predict", {"signature_name": "same", "inputs": 1.0}).status_code == 400
    code, text = error(client.stub.Predict, predict("half", {"x": [[1.0, 2.0]]}))
    assert code == "INVALID_ARGUMENT" and "expected is [?,1]" in text


def test_an_error_in_the_model_reaches_the_client_and_nobody_else(client):
    import threading

    results: dict[float, int] = {}

    def ask(value: float) -> None:
        body = {"signature_name": "positive", "instances": [value]}
        results[value] = client.post("doors:predict", body).status_code

    threads = [threading.Thread(target=ask, args=(value,)) for value in [*map(float, range(12)), -1.0]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.pop(-1.0) == 400 and set(results.values()) == {200}


def test_large_requests_are_refused_by_both(client):
    assert client.post("half:predict", b" " * (MAX_BODY + 1)).status_code == 413
    code, _ = error(client.stub.Predict, predict("half", {"x": np.zeros((MAX_BODY // 4, 1), np.float32)}))
    assert code == "RESOURCE_EXHAUSTED"


def test_gzip_bodies_are_read_up_to_the_limit(client):
    import gzip

    def send(content: bytes) -> int:
        return client.http.post(
            "/v1/models/half:predict", content=content, headers={"content-encoding": "gzip"}
        ).status_code

    assert send(gzip.compress(b'{"instances": [[1]]}')) == 200
    assert send(gzip.compress(b" " * (MAX_BODY + 1))) == 400
    assert send(b"no gzip") == 400


def test_deadlines_end_requests_and_not_the_server(client):
    slow = predict("doors", {"turns": np.array([2000], np.int32)}, "slow")
    assert error(client.stub.Predict, slow, timeout=0.05)[0] == "DEADLINE_EXCEEDED"
    assert client.post("half:predict", {"instances": [[2.0]]}).status_code == 200


def test_rest_deadlines_are_504(folder):
    options = Options(
        [Model("doors", str(folder / "doors"))], grpc_port=None, rest_port=0, poll=POLL, rest_timeout=0.05
    )
    with serving(options) as app, httpx.Client(base_url=f"http://127.0.0.1:{app.rest_port}", timeout=120) as client:
        found = client.post("/v1/models/doors:predict", json={"signature_name": "slow", "instances": [2000]})
        assert found.status_code == 504 and found.json() == {"error": "Deadline Exceeded"}


# Classify, regress, several at once.

EXAMPLES = [{"x": 80.0}, {"x": [20.0]}]


def packed(request):
    for one in EXAMPLES:
        value = np.ravel(one["x"])
        request.input.example_list.examples.add().features.feature["x"].float_list.value.extend(value)
    return request


def test_classify_by_both(client):
    expected = [[["half", 42.0]], [["half", 12.0]]]
    body = {"signature_name": "classify_x_to_y", "examples": EXAMPLES}
    assert client.post("half:classify", body).json() == {"results": expected}
    request = packed(classification_pb2.ClassificationRequest())
    request.model_spec.name, request.model_spec.signature_name = "half", "classify_x_to_y"
    answer = client.stub.Classify(request, timeout=20)
    found = [[[one.label, one.score] for one in row.classes] for row in answer.result.classifications]
    assert found == expected and answer.model_spec.version.value == 2


def test_regress_by_both_and_a_context_fills_in(client):
    body = {"signature_name": "regress_x_to_y", "examples": EXAMPLES}
    assert client.post("half:regress", body).json() == {"results": [42.0, 12.0]}
    body = {"signature_name": "regress_x_to_y", "context": {"x": 4.0}, "examples": [{}, {"x": 20.0}]}
    assert client.post("half:regress", body).json() == {"results": [4.0, 12.0]}
    request = packed(regression_pb2.RegressionRequest())
    request.model_spec.name, request.model_spec.signature_name = "half", "regress_x_to_y"
    assert [one.value for one in client.stub.Regress(request, timeout=20).result.regressions] == [42.0, 12.0]


def test_requests_for_the_wrong_kind_of_signature(client):
    found = client.post("half:regress", {"examples": EXAMPLES})
    assert found.status_code == 400
    assert "Expected regression signature method_name to be tensorflow/serving/regress" in found.json()["error"]
    for examples in ([], [1], {"x": 1}, [{"x": ["a", 1]}], [{"x": {"no": 1}}], [{"x": None}]):
        body = {"signature_name": "regress_x_to_y", "examples": examples}
        assert client.post("half:regress", body).status_code == 400


def test_an_example_that_the_model_cannot_parse_is_a_400(client):
    assert (
        client.post("half:regress", {"signature_name": "regress_x_to_y", "examples": [{"x": "a"}]}).status_code == 400
    )


def several(*tasks: tuple[str, str]) -> inference_pb2.MultiInferenceRequest:
    request = packed(inference_pb2.MultiInferenceRequest())
    for signature, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "half", signature
    return request


def test_multi_inference(client):
    request = several(("regress_x_to_y", "regress"), ("classify_x_to_y", "classify"), ("regress_x_to_y3", "regress"))
    results = client.stub.MultiInference(request, timeout=20).results
    assert [one.value for one in results[0].regression_result.regressions] == [42.0, 12.0]
    assert results[1].classification_result.classifications[1].classes[0].score == 12.0
    assert [one.value for one in results[2].regression_result.regressions] == [43.0, 13.0]
    assert results[0].model_spec.version.value == 2 and results[2].model_spec.signature_name == "regress_x_to_y3"


def test_multi_inference_refuses(client):
    twice = several(("regress_x_to_y", "regress"), ("regress_x_to_y", "regress"))
    code, text = error(client.stub.MultiInference, twice)
    assert code == "INVALID_ARGUMENT" and text == "Duplicate evaluation of signature: regress_x_to_y"
    assert error(client.stub.MultiInference, several(("two", "predict")))[0] == "UNIMPLEMENTED"
    assert error(client.stub.MultiInference, several())[0] == "INVALID_ARGUMENT"
    other = several(("regress_x_to_y", "regress"), ("regress_x_to_y3", "regress"))
    other.tasks[1].model_spec.name = "doors"
    assert "same model name" in error(client.stub.MultiInference, other)[1]
    empty = several(("regress_x_to_y", "regress"))
    empty.ClearField("input")
    assert error(client.stub.MultiInference, empty) == ("INVALID_ARGUMENT", "Input is empty.")


# Versions, status, metadata.


def test_versions_and_labels_by_both(client):
    for path, expected in (("versions/1", 2.0), ("versions/2", 3.0), ("labels/stable", 2.0), ("labels/canary", 3.0)):
        assert client.post(f"half/{path}:predict", {"instances": [[2.0]]}).json() == {"predictions": [[expected]]}
    for named, expected in (({"version": 1}, 2.0), ({"label": "canary"}, 3.0), ({"label": "stable"}, 2.0)):
        answer = client.stub.Predict(predict("half", {"x": [[2.0]]}, **named), timeout=20)
        assert list(answer.outputs["y"].float_val) == [expected]


def test_status_by_both(client):
    found = client.http.get("/v1/models/half").json()["model_version_status"]
    fine = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert found == [{"version": "2"} | fine, {"version": "1"} | fine]
    assert client.http.get("/v1/models/half/versions/1").json()["model_version_status"] == found[1:]
    assert client.http.get("/v1/models/half/labels/stable").json()["model_version_status"] == found[1:]
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "half"
    statuses = client.models.GetModelStatus(request, timeout=20).model_version_status
    assert [(one.version, one.state) for one in statuses] == [(2, 30), (1, 30)]
    assert client.http.get("/v1/models/nope").status_code == 404
    request.model_spec.name = "nope"
    assert error(client.models.GetModelStatus, request)[0] == "NOT_FOUND"


def test_metadata_by_both(client):
    found = client.http.get("/v1/models/half/metadata").json()
    assert found["model_spec"] == {"name": "half", "signature_name": "", "version": "2"}
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in signature["inputs"]["x"]["tensor_shape"]["dim"]] == ["-1", "1"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "half"
    answer = client.stub.GetModelMetadata(request, timeout=20)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) >= {"serving_default", "two", "regress_x_to_y", "classify_x_to_y"}
    assert signatures.signature_def["serving_default"].inputs["x"].dtype == tf.float32.as_datatype_enum


def test_metadata_refuses(client):
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    assert error(client.stub.GetModelMetadata, request) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    request.model_spec.name = "half"
    assert "at least one metadata_field" in error(client.stub.GetModelMetadata, request)[1]
    request.metadata_field.append("other")
    assert error(client.stub.GetModelMetadata, request)[1] == "Metadata field other is not supported"


# Metrics and health.


def test_prometheus_metrics_have_tensorflow_servings_names(client):
    client.post("half:predict", {"instances": [[1]]})
    client.post("half:predict", {"instances": [["a"]]})
    client.post("nobody-has-this:predict", {})
    text = client.http.get("/monitoring/prometheus/metrics").text
    assert "nobody-has-this" not in text
    families = {one.name: one for one in text_string_to_metric_families(text)}
    counts = {(one.labels["model_name"], one.labels["status"]): one.value
              for one in families[":tensorflow:serving:request_count"].samples}  # fmt: skip
    assert counts["half", "OK"] >= 1 and counts["half", "INVALID_ARGUMENT"] >= 1
    latency = [
        one for one in families[":tensorflow:serving:request_latency"].samples if one.labels.get("model_name") == "half"
    ]
    assert {one.labels["entrypoint"] for one in latency} == {"REST", "GRPC"}
    assert {one.labels["API"] for one in latency} >= {"Predict", "Classify", "Regress"}
    by_name = {one.name.rsplit("_", 1)[1] for one in latency}
    assert by_name == {"bucket", "sum", "count"}


def test_health_tells_both_services(client):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    stub = health_pb2_grpc.HealthStub(client.channel)
    for name in ("", "tensorflow.serving.PredictionService"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20).status == 1
    assert error(stub.Check, health_pb2.HealthCheckRequest(service="other"))[0] == "NOT_FOUND"


def test_what_is_switched_off_is_not_there(folder):
    models = [Model("doors", str(folder / "doors"))]
    options = Options(models, grpc_port=0, rest_port=0, poll=POLL, health=False, metrics_path=None, packed=True,
                      batching=Batching(enabled=False))  # fmt: skip
    with serving(options) as app:
        client = Client(app)
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        check = health_pb2_grpc.HealthStub(client.channel).Check
        assert error(check, health_pb2.HealthCheckRequest())[0] == "UNIMPLEMENTED"
        assert client.http.get("/monitoring/prometheus/metrics").status_code == 404
        tensor = client.stub.Predict(predict("doors", {"x": [1.5]}, "same"), timeout=20).outputs["y"]
        assert tensor.tensor_content == np.float32(1.5).tobytes() and not tensor.float_val
        client.close()


def test_warm_up_requests_run_before_a_version_serves_and_a_bad_one_keeps_it_out(tmp_path):
    warm(half_plus(tmp_path / "m" / "1"), 4.0)
    warm(half_plus(tmp_path / "m" / "2"), 4.0, column="wrong")
    model = Model("m", str(tmp_path / "m"), "all")
    with serving(Options([model], grpc_port=None, rest_port=0, poll=POLL)) as app:
        until(lambda: len(app.engine.states("m")) == 2 and app.engine.states("m")[0].state == "END")
        assert app.engine.servable("m").version == 1 and app.engine.servable("m").warmed == 1
        states = {one.version: (one.state, one.code) for one in app.engine.states("m")}
        assert states == {1: ("AVAILABLE", "OK"), 2: ("END", "INVALID_ARGUMENT")}


def test_reload_by_grpc(client_of_two):
    client, folder = client_of_two
    request = model_management_pb2.ReloadConfigRequest()
    one = request.config.model_config_list.config.add(name="other", base_path=str(folder / "half"))
    one.model_version_policy.specific.versions.append(3)
    assert client.models.HandleReloadConfigRequest(request, timeout=30).status.error_code == 0
    answer = client.stub.Predict(predict("other", {"x": [[2.0]]}), timeout=20)
    assert (answer.model_spec.version.value, list(answer.outputs["y"].float_val)) == (3, [4.0])
    assert error(client.stub.Predict, predict("half", {"x": [[2.0]]}))[0] == "NOT_FOUND"
    one.version_labels["stable"] = 2
    refused = client.models.HandleReloadConfigRequest(request, timeout=30).status
    assert refused.error_code == 9 and "not currently available for inference" in refused.error_message
    one.version_labels["stable"] = 3
    assert client.models.HandleReloadConfigRequest(request, timeout=30).status.error_code == 0
    answer = client.stub.Predict(predict("other", {"x": [[2.0]]}, label="stable"), timeout=20)
    assert answer.model_spec.version.value == 3
    request.config.model_config_list.config.add(name="other", base_path="/elsewhere")
    assert "multiple times" in client.models.HandleReloadConfigRequest(request, timeout=30).status.error_message
    empty = model_management_pb2.ReloadConfigRequest()
    assert client.models.HandleReloadConfigRequest(empty, timeout=30).status.error_code == 3


@pytest.fixture
def client_of_two(folder):
    models = [Model("half", str(folder / "half"), latest=2)]
    with serving(Options(models, grpc_port=0, rest_port=0, poll=POLL)) as app:
        client = Client(app)
        yield client, folder
        client.close()
