"""Faults planted in the manifests, each of which has to be found."""

import re
from collections.abc import Callable
from typing import Any

import kubernetes_validate
import pytest
from support.manifests import Document, check_words, faults, rendered, templates, tool, valid

pytestmark = pytest.mark.system


@pytest.fixture(scope="module", autouse=True)
def kubectl() -> None:
    tool("kubectl")


def served(documents: list[Document]) -> Document:
    """The model server's container."""
    (deployment,) = [
        one for one in documents if one["kind"] == "Deployment" and one["metadata"]["name"] == "model-server"
    ]
    return deployment["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda one: one.update(readinesProbe=one.pop("readinessProbe")), id="typo"),
        pytest.param(lambda one: one["ports"][0].update(containerPort="8500"), id="wrong type"),
        pytest.param(lambda one: one["livenessProbe"].update(periodSeconds="often"), id="no number"),
        pytest.param(lambda one: one.pop("name"), id="missing field"),
    ],
)
def test_a_typo_and_a_wrong_type_are_refused(fault: Callable[[Document], Any]) -> None:
    documents = rendered("base")
    fault(served(documents))
    with pytest.raises(kubernetes_validate.ValidationError):
        for one in documents:
            valid(one)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda one: one.pop("readinessProbe"), "no readinessProbe"),
        (lambda one: one["resources"]["limits"].pop("memory"), "no limits of memory"),
        (lambda one: one.update(image="tensorflow/serving:latest"), "is not pinned"),
        (lambda one: one.update(image="registry.example.com:5000/serving"), "is not pinned"),
        (lambda one: one["securityContext"].update(readOnlyRootFilesystem=False), "readOnlyRootFilesystem is not True"),
        (lambda one: one["securityContext"]["capabilities"].update(drop=["NET_RAW"]), "capabilities"),
        (lambda one: one["volumeMounts"].append({"name": "there", "mountPath": "/there"}), "no volume there"),
    ],
)
def test_what_a_pod_lacks_is_found(fault: Callable[[Document], Any], said: str) -> None:
    documents = rendered("base")
    fault(served(documents))
    (found,) = faults(documents)
    assert said in found


def test_a_pod_that_may_run_as_root_is_found() -> None:
    documents = rendered("base")
    next(templates(documents))[1]["spec"]["securityContext"].pop("runAsNonRoot")
    assert [one for one in faults(documents) if "may run as root" in one]


@pytest.mark.parametrize(
    ("line", "said"),
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
def test_an_unknown_flag_command_or_module_is_found(line: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        check_words(line)
