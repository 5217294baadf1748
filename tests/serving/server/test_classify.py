"""TensorFlow Serving's interface: Classify, Regress and MultiInference."""

import numpy as np
import pytest
from support.served_client import expect_error
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    regression_pb2,
)

pytestmark = pytest.mark.system

EXAMPLES = [{"x": 80.0}, {"x": [20.0]}]


def add_examples(request):
    for example in EXAMPLES:
        value = np.ravel(example["x"])
        request.input.example_list.examples.add().features.feature["x"].float_list.value.extend(value)
    return request


def test_classify_over_grpc_and_rest_returns_labels_and_scores(client):
    expected = [[["half", 42.0]], [["half", 12.0]]]
    body = {"signature_name": "classify_x_to_y", "examples": EXAMPLES}
    assert client.post("half:classify", body).json() == {"results": expected}
    request = add_examples(classification_pb2.ClassificationRequest())
    request.model_spec.name, request.model_spec.signature_name = "half", "classify_x_to_y"
    answer = client.stub.Classify(request, timeout=20)
    classes = [[[class_.label, class_.score] for class_ in row.classes] for row in answer.result.classifications]
    assert classes == expected and answer.model_spec.version.value == 2


def test_regress_over_grpc_and_rest_merges_the_context(client):
    body = {"signature_name": "regress_x_to_y", "examples": EXAMPLES}
    assert client.post("half:regress", body).json() == {"results": [42.0, 12.0]}
    body = {"signature_name": "regress_x_to_y", "context": {"x": 4.0}, "examples": [{}, {"x": 20.0}]}
    assert client.post("half:regress", body).json() == {"results": [4.0, 12.0]}
    request = add_examples(regression_pb2.RegressionRequest())
    request.model_spec.name, request.model_spec.signature_name = "half", "regress_x_to_y"
    assert [regression.value for regression in client.stub.Regress(request, timeout=20).result.regressions] == [
        42.0,
        12.0,
    ]


def test_wrong_kind_of_signature_or_examples_returns_400(client):
    response = client.post("half:regress", {"examples": EXAMPLES})
    assert response.status_code == 400
    assert "Expected regression signature method_name to be tensorflow/serving/regress" in response.json()["error"]
    for examples in ([], [1], {"x": 1}, [{"x": ["a", 1]}], [{"x": {"no": 1}}], [{"x": None}]):
        body = {"signature_name": "regress_x_to_y", "examples": examples}
        assert client.post("half:regress", body).status_code == 400


def test_example_that_the_model_cannot_parse_returns_400(client):
    assert (
        client.post("half:regress", {"signature_name": "regress_x_to_y", "examples": [{"x": "a"}]}).status_code == 400
    )


def multi_inference_request(*tasks: tuple[str, str]) -> inference_pb2.MultiInferenceRequest:
    request = add_examples(inference_pb2.MultiInferenceRequest())
    for signature, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = "half", signature
    return request


def test_multi_inference_returns_one_result_per_task(client):
    request = multi_inference_request(
        ("regress_x_to_y", "regress"), ("classify_x_to_y", "classify"), ("regress_x_to_y3", "regress")
    )
    results = client.stub.MultiInference(request, timeout=20).results
    assert [regression.value for regression in results[0].regression_result.regressions] == [42.0, 12.0]
    assert results[1].classification_result.classifications[1].classes[0].score == 12.0
    assert [regression.value for regression in results[2].regression_result.regressions] == [43.0, 13.0]
    assert results[0].model_spec.version.value == 2 and results[2].model_spec.signature_name == "regress_x_to_y3"


def test_invalid_multi_inference_is_refused(client):
    twice = multi_inference_request(("regress_x_to_y", "regress"), ("regress_x_to_y", "regress"))
    code, text = expect_error(client.stub.MultiInference, twice)
    assert code == "INVALID_ARGUMENT" and text == "Duplicate evaluation of signature: regress_x_to_y"
    assert expect_error(client.stub.MultiInference, multi_inference_request(("two", "predict")))[0] == "UNIMPLEMENTED"
    assert expect_error(client.stub.MultiInference, multi_inference_request())[0] == "INVALID_ARGUMENT"
    other = multi_inference_request(("regress_x_to_y", "regress"), ("regress_x_to_y3", "regress"))
    other.tasks[1].model_spec.name = "signatures"
    assert "same model name" in expect_error(client.stub.MultiInference, other)[1]
    empty = multi_inference_request(("regress_x_to_y", "regress"))
    empty.ClearField("input")
    assert expect_error(client.stub.MultiInference, empty) == ("INVALID_ARGUMENT", "Input is empty.")
