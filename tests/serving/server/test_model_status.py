"""TensorFlow Serving's interface: versions, labels, status, metadata and reload of the model config."""

import pytest
import tensorflow as tf
from support.served_client import ModelServerClient, expect_error
from support.served_models import POLL, build_predict_request, run_model_server
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
)

from serving.server.app import ServerOptions
from serving.server.config import ModelConfig

pytestmark = pytest.mark.system


def test_versions_and_labels_select_the_model_over_grpc_and_rest(client):
    for path, expected in (("versions/1", 2.0), ("versions/2", 3.0), ("labels/stable", 2.0), ("labels/canary", 3.0)):
        assert client.post(f"half/{path}:predict", {"instances": [[2.0]]}).json() == {"predictions": [[expected]]}
    for choice, expected in (({"version": 1}, 2.0), ({"label": "canary"}, 3.0), ({"label": "stable"}, 2.0)):
        answer = client.stub.Predict(build_predict_request("half", {"x": [[2.0]]}, **choice), timeout=20)
        assert list(answer.outputs["y"].float_val) == [expected]


def test_status_lists_versions_over_grpc_and_rest(client):
    statuses_json = client.http.get("/v1/models/half").json()["model_version_status"]
    available = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert statuses_json == [{"version": "2"} | available, {"version": "1"} | available]
    assert client.http.get("/v1/models/half/versions/1").json()["model_version_status"] == statuses_json[1:]
    assert client.http.get("/v1/models/half/labels/stable").json()["model_version_status"] == statuses_json[1:]
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "half"
    statuses = client.models.GetModelStatus(request, timeout=20).model_version_status
    assert [(status.version, status.state) for status in statuses] == [(2, 30), (1, 30)]
    assert client.http.get("/v1/models/nope").status_code == 404
    request.model_spec.name = "nope"
    assert expect_error(client.models.GetModelStatus, request)[0] == "NOT_FOUND"


def test_metadata_lists_signatures_over_grpc_and_rest(client):
    metadata = client.http.get("/v1/models/half/metadata").json()
    assert metadata["model_spec"] == {"name": "half", "signature_name": "", "version": "2"}
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
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


def test_invalid_metadata_request_is_refused(client):
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    assert expect_error(client.stub.GetModelMetadata, request) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    request.model_spec.name = "half"
    assert "at least one metadata_field" in expect_error(client.stub.GetModelMetadata, request)[1]
    request.metadata_field.append("other")
    assert expect_error(client.stub.GetModelMetadata, request)[1] == "Metadata field other is not supported"


def test_reload_config_replaces_models_and_labels(client_of_two_versions):
    client, folder = client_of_two_versions
    request = model_management_pb2.ReloadConfigRequest()
    model = request.config.model_config_list.config.add(name="other", base_path=str(folder / "half"))
    model.model_version_policy.specific.versions.append(3)
    assert client.models.HandleReloadConfigRequest(request, timeout=30).status.error_code == 0
    answer = client.stub.Predict(build_predict_request("other", {"x": [[2.0]]}), timeout=20)
    assert (answer.model_spec.version.value, list(answer.outputs["y"].float_val)) == (3, [4.0])
    assert expect_error(client.stub.Predict, build_predict_request("half", {"x": [[2.0]]}))[0] == "NOT_FOUND"
    model.version_labels["stable"] = 2
    code, text = expect_error(client.models.HandleReloadConfigRequest, request)
    assert code == "FAILED_PRECONDITION" and "not currently available for inference" in text
    model.version_labels["stable"] = 3
    assert client.models.HandleReloadConfigRequest(request, timeout=30).status.error_code == 0
    answer = client.stub.Predict(build_predict_request("other", {"x": [[2.0]]}, label="stable"), timeout=20)
    assert answer.model_spec.version.value == 3
    request.config.model_config_list.config.add(name="other", base_path="/elsewhere")
    code, text = expect_error(client.models.HandleReloadConfigRequest, request)
    assert code == "INVALID_ARGUMENT" and "multiple times" in text
    code, text = expect_error(client.models.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest())
    assert code == "INVALID_ARGUMENT" and "Only ModelConfigList is currently supported" in text
    assert client.stub.Predict(build_predict_request("other", {"x": [[2.0]]}), timeout=20).model_spec.version.value == 3


@pytest.fixture
def client_of_two_versions(served_folder):
    models = [ModelConfig("half", str(served_folder / "half"), latest=2)]
    with run_model_server(ServerOptions(models, grpc_port=0, rest_port=0, poll=POLL)) as app:
        client = ModelServerClient(app)
        yield client, served_folder
        client.close()
