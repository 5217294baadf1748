"""Injected faults in the manifests, each of which has to be detected."""

import re
from collections.abc import Callable
from typing import Any

import kubernetes_validate
import pytest
from support.manifests import (
    Document,
    check_command_line,
    find_faults,
    list_pod_templates,
    render_manifests,
    require_tool,
    validate_object,
)

pytestmark = pytest.mark.system


@pytest.fixture(scope="module", autouse=True)
def kubectl() -> None:
    require_tool("kubectl")


def model_server_container(documents: list[Document]) -> Document:
    """Return the container of the model server."""
    deployments = [document for document in documents if document["kind"] == "Deployment"]
    (deployment,) = [document for document in deployments if document["metadata"]["name"] == "model-server"]
    return deployment["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda spec: spec.update(readinesProbe=spec.pop("readinessProbe")), id="typo"),
        pytest.param(lambda spec: spec["ports"][0].update(containerPort="8500"), id="wrong type"),
        pytest.param(lambda spec: spec["livenessProbe"].update(periodSeconds="often"), id="no number"),
        pytest.param(lambda spec: spec.pop("name"), id="missing field"),
    ],
)
def test_a_typo_and_a_wrong_type_are_refused(fault: Callable[[Document], Any]) -> None:
    documents = render_manifests("base")
    fault(model_server_container(documents))
    with pytest.raises(kubernetes_validate.ValidationError):
        for document in documents:
            validate_object(document)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda spec: spec.pop("readinessProbe"), "no readinessProbe"),
        (lambda spec: spec["resources"]["limits"].pop("memory"), "no limits of memory"),
        (lambda spec: spec.update(image="tensorflow/serving:latest"), "is not pinned"),
        (lambda spec: spec.update(image="registry.example.com:5000/serving"), "is not pinned"),
        (
            lambda spec: spec["securityContext"].update(readOnlyRootFilesystem=False),
            "readOnlyRootFilesystem is not True",
        ),
        (lambda spec: spec["securityContext"]["capabilities"].update(drop=["NET_RAW"]), "capabilities"),
        (lambda spec: spec["volumeMounts"].append({"name": "missing", "mountPath": "/missing"}), "no volume missing"),
    ],
)
def test_missing_pod_settings_are_found(fault: Callable[[Document], Any], message: str) -> None:
    documents = render_manifests("base")
    fault(model_server_container(documents))
    (problem,) = find_faults(documents)
    assert message in problem


def test_a_pod_that_may_run_as_root_is_found() -> None:
    documents = render_manifests("base")
    next(list_pod_templates(documents))[1]["spec"]["securityContext"].pop("runAsNonRoot")
    assert [text for text in find_faults(documents) if "may run as root" in text]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["tensorflow_model_server", "--rest_api_prot=8501"], "--rest_api_prot"),
        (["tensorflow_model_server", "--port=many"], "--port takes a whole number"),
        (["tensorflow_model_server", "--ssl_config_file=/x"], "not supported"),
        (["showcase", "serve", "--rst-port", "8501"], "--rst-port"),
        (["showcase", "serve", "--port", "many"], "--port"),
        (["showcase", "sreve"], "no command 'sreve'"),
        (["python", "-m", "models.training.worker", "/job.json", "--exprt=/x"], "--exprt"),
        (["python", "-m", "pipeline.kubeflow.training_job", "fraud"], "--out"),
        (["python", "-m", "models.wroker"], "models.wroker"),
        (["serve"], "no program 'serve'"),
    ],
)
def test_an_unknown_flag_command_or_module_is_refused(line: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check_command_line(line)
