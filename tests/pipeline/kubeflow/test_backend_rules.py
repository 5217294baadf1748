"""The backend's rules: a valid spec passes, and every violated rule is an error."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.kubeflow import backend_rules

SPEC: dict[str, Any] = {
    "pipelineInfo": {"name": "tiny"},
    "schemaVersion": "2.1.0",
    "root": {
        "dag": {
            "tasks": {
                "one": {"componentRef": {"name": "comp-one"}},
                "two": {"componentRef": {"name": "comp-two"}, "dependentTasks": ["one"]},
            }
        }
    },
    "components": {"comp-one": {"executorLabel": "exec-one"}, "comp-two": {"executorLabel": "exec-two"}},
    "deploymentSpec": {
        "executors": {"exec-one": {"container": {"image": "a:1"}}, "exec-two": {"container": {"image": "a:1"}}}
    },
}
PLATFORM = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-one": {"podMetadata": {}}}}}}}


def write_documents(folder: Path, *documents: object) -> Path:
    path = folder / "spec.yaml"
    path.write_text("\n---\n".join(json.dumps(document) for document in documents))
    return path


def test_valid_spec_passes_with_and_without_platform_spec(tmp_path: Path) -> None:
    backend_rules.check_spec(write_documents(tmp_path, SPEC))
    backend_rules.check_spec(write_documents(tmp_path, SPEC, PLATFORM))


@pytest.mark.parametrize(
    ("break_spec", "message"),
    [
        (lambda s: s.update(schemaVersion="2.0.0"), "schema version must be 2.1.0, not '2.0.0'"),
        (lambda s: s["pipelineInfo"].update(name="Tiny_1"), "is not a valid name"),
        (lambda s: s["pipelineInfo"].update(name=""), "is not a valid name"),
        (lambda s: s.pop("root"), "the root component is empty"),
        (lambda s: s["components"].update(root={"executorLabel": "exec-one"}), "must not be called 'root'"),
        (lambda s: s["components"]["comp-two"].update(executorLabel="exec-3"), "has no executor 'exec-3'"),
        (lambda s: s["deploymentSpec"]["executors"].update({"exec-one": {"resolver": {}}}), "neither a container"),
        (lambda s: s["deploymentSpec"]["executors"]["exec-one"]["container"].pop("image"), "has no image"),
        (lambda s: s["components"].pop("comp-two"), "refers to component 'comp-two', which does not exist"),
        (lambda s: s["components"].update({"comp-two": {}}), "neither an executor nor tasks"),
        (lambda s: s["components"].update({"comp-two": {"dag": s["root"]["dag"]}}), "'comp-two' contains itself"),
        (lambda s: s["root"]["dag"]["tasks"]["two"].update(dependentTasks=["zero"]), "depends on task 'zero'"),
        (
            lambda s: s["root"]["dag"]["tasks"].update({"Three": {"componentRef": {"name": "comp-one"}}}),
            "'Three' is not a valid task name",
        ),
        (
            lambda s: s["root"]["dag"]["tasks"].update({"t" * 64: {"componentRef": {"name": "comp-one"}}}),
            "is not a valid task name",
        ),
        (lambda s: s.update(schemaVerson="2.1.0"), "schemaVerson"),
    ],
)
def test_violated_rule_is_an_error(tmp_path: Path, break_spec: Callable[[dict], object], message: str) -> None:
    broken = copy.deepcopy(SPEC)
    break_spec(broken)
    with pytest.raises(ValueError, match="^The backend would refuse") as raised:
        backend_rules.check_spec(write_documents(tmp_path, broken))
    assert message in str(raised.value)


def test_unknown_executor_and_wrong_number_of_specs_are_errors(tmp_path: Path) -> None:
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-9": {}}}}}}
    faults = (
        ([SPEC, platform], "'exec-9', which is not an executor"),
        ([SPEC, SPEC], "2 pipeline specs"),
        ([], "0 pipeline"),
    )
    for documents, message in faults:
        with pytest.raises(ValueError, match=message):
            backend_rules.check_spec(write_documents(tmp_path, *documents))


def test_invalid_yaml_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("a: [1")
    with pytest.raises(ValueError, match="would refuse spec.yaml"):
        backend_rules.check_spec(path)
