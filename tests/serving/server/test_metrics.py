"""TensorFlow Serving's interface: metrics under its names, the health service, and both disabled."""

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.served_client import ModelServerClient, expect_error
from support.served_models import POLL, build_predict_request, run_model_server

from serving.server.app import ServerOptions
from serving.server.config import BatchingParameters, ModelConfig

pytestmark = pytest.mark.system


def test_prometheus_metrics_have_tensorflow_servings_names(client):
    client.stub.Predict(build_predict_request("half", {"x": [[1.0]]}), timeout=20)
    for kind in ("classify", "regress"):
        client.post(f"half:{kind}", {"signature_name": f"{kind}_x_to_y", "examples": [{"x": 1.0}]})
    client.post("half:predict", {"instances": [[1]]})
    client.post("half:predict", {"instances": [["a"]]})
    client.post("nobody-has-this:predict", {})
    text = client.http.get("/monitoring/prometheus/metrics").text
    assert "nobody-has-this" not in text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    counts = {
        (sample.labels["model_name"], sample.labels["status"]): sample.value
        for sample in families[":tensorflow:serving:request_count"].samples
    }
    assert counts["half", "OK"] >= 1 and counts["half", "INVALID_ARGUMENT"] >= 1
    latency = [
        sample
        for sample in families[":tensorflow:serving:request_latency"].samples
        if sample.labels.get("model_name") == "half"
    ]
    assert {sample.labels["entrypoint"] for sample in latency} == {"REST", "GRPC"}
    assert {sample.labels["API"] for sample in latency} >= {"Predict", "Classify", "Regress"}
    suffixes = {sample.name.rsplit("_", 1)[1] for sample in latency}
    assert suffixes == {"bucket", "sum", "count"}


def test_health_reports_all_services_as_serving(client):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    stub = health_pb2_grpc.HealthStub(client.channel)
    for name in ("", "tensorflow.serving.PredictionService"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20).status == 1
    assert expect_error(stub.Check, health_pb2.HealthCheckRequest(service="other"))[0] == "NOT_FOUND"


def test_watch_reports_the_status(client):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    call = health_pb2_grpc.HealthStub(client.channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
    assert next(call).status == 1
    call.cancel()


@pytest.mark.parametrize("method", ["Check", "Watch"])
@pytest.mark.parametrize("length", [(4 << 10) - 2, 1 << 19])
def test_large_health_request_is_refused(client, method, length):
    """Three bytes precede the name of a service, so that the smallest of these requests is one byte too long."""
    from grpc_health.v1 import health_pb2

    request = health_pb2.HealthCheckRequest(service="a" * length).SerializeToString()
    kind = client.channel.unary_unary if method == "Check" else client.channel.unary_stream
    call = kind(f"/grpc.health.v1.Health/{method}")
    status, message = expect_error(lambda data, **options: list(call(data, **options)), request)
    assert status == "RESOURCE_EXHAUSTED" and f"{len(request)} bytes; at most 4096 are read" in message


def test_largest_health_request_is_answered(client):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    stub, request = health_pb2_grpc.HealthStub(client.channel), health_pb2.HealthCheckRequest(service="a" * 4093)
    assert len(request.SerializeToString()) == 4 << 10
    assert expect_error(stub.Check, request)[0] == "NOT_FOUND"
    call = stub.Watch(request, timeout=20)
    assert next(call).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    call.cancel()


def test_health_answers_while_large_health_requests_arrive():
    """More of them than may arrive at once; each is refused, and the small one between them is answered."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with run_model_server(ServerOptions(grpc_port=0, rest_port=0, poll=POLL, max_body=64 << 20)) as app:
        client = ModelServerClient(app)
        check = client.channel.unary_unary("/grpc.health.v1.Health/Check")
        calls = [check.future(bytes(32 << 20), timeout=30) for _ in range(6)]
        assert health_pb2_grpc.HealthStub(client.channel).Check(health_pb2.HealthCheckRequest(), timeout=20).status
        assert {call.code().name for call in calls} <= {"RESOURCE_EXHAUSTED", "UNAVAILABLE"}
        client.close()


def test_disabled_health_metrics_and_batching_are_absent(served_folder):
    models = [ModelConfig("signatures", str(served_folder / "signatures"))]
    options = ServerOptions(
        models,
        grpc_port=0,
        rest_port=0,
        poll=POLL,
        health=False,
        metrics_path=None,
        packed=True,
        batching=BatchingParameters(enabled=False),
    )
    with run_model_server(options) as app:
        client = ModelServerClient(app)
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        check = health_pb2_grpc.HealthStub(client.channel).Check
        assert expect_error(check, health_pb2.HealthCheckRequest())[0] == "UNIMPLEMENTED"
        assert client.http.get("/monitoring/prometheus/metrics").status_code == 404
        tensor = client.stub.Predict(build_predict_request("signatures", {"x": [1.5]}, "same"), timeout=20).outputs["y"]
        assert tensor.tensor_content == np.float32(1.5).tobytes() and not tensor.float_val
        client.close()
