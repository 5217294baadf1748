"""TensorFlow Serving's contract: classify, regress, and several at once."""

import numpy as np
import pytest
from support.served_client import error
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    regression_pb2,
)

pytestmark = pytest.mark.system

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
