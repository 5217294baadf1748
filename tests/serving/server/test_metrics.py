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
