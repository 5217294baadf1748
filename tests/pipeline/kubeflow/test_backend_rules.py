"""The backend's rules: a good spec passes, and each rule refuses what breaks it."""

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


def written(folder: Path, *documents: object) -> Path:
    path = folder / "spec.yaml"
    path.write_text("\n---\n".join(json.dumps(one) for one in documents))
    return path


def test_a_good_spec_passes_with_and_without_its_platform(tmp_path: Path) -> None:
    backend_rules.check(written(tmp_path, SPEC))
    backend_rules.check(written(tmp_path, SPEC, PLATFORM))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda s: s.update(schemaVersion="2.0.0"), "schema version 2.1.0 is the only one, not '2.0.0'"),
        (lambda s: s["pipelineInfo"].update(name="Tiny_1"), "is no name"),
        (lambda s: s["pipelineInfo"].update(name=""), "is no name"),
        (lambda s: s.pop("root"), "the root component is empty"),
        (lambda s: s["components"].update(root={"executorLabel": "exec-one"}), "may not be called 'root'"),
        (lambda s: s["components"]["comp-two"].update(executorLabel="exec-3"), "has no executor 'exec-3'"),
        (lambda s: s["deploymentSpec"]["executors"].update({"exec-one": {"resolver": {}}}), "neither a container"),
        (lambda s: s["deploymentSpec"]["executors"]["exec-one"]["container"].pop("image"), "has no image"),
        (lambda s: s["components"].pop("comp-two"), "is of component 'comp-two', which there is not"),
        (lambda s: s["components"].update({"comp-two": {}}), "neither an executor nor tasks"),
        (lambda s: s["components"].update({"comp-two": {"dag": s["root"]["dag"]}}), "'comp-two' contains itself"),
        (lambda s: s["root"]["dag"]["tasks"]["two"].update(dependentTasks=["zero"]), "after 'zero'"),
        (
            lambda s: s["root"]["dag"]["tasks"].update({"Three": {"componentRef": {"name": "comp-one"}}}),
            "'Three' is no name",
        ),
        (
            lambda s: s["root"]["dag"]["tasks"].update({"t" * 64: {"componentRef": {"name": "comp-one"}}}),
            "no name of a task",
        ),
        (lambda s: s.update(schemaVerson="2.1.0"), "schemaVerson"),
    ],
)
def test_each_rule_refuses(tmp_path: Path, fault: Callable[[dict], object], said: str) -> None:
    broken = copy.deepcopy(SPEC)
    fault(broken)
    with pytest.raises(ValueError, match="^The backend would refuse") as refused:
        backend_rules.check(written(tmp_path, broken))
    assert said in str(refused.value)


def test_settings_of_an_executor_that_is_not_there_and_second_specs_are_refused(tmp_path: Path) -> None:
    stray = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-9": {}}}}}}
    faults = (([SPEC, stray], "'exec-9' belong to no executor"), ([SPEC, SPEC], "2 pipeline specs"), ([], "0 pipeline"))
    for documents, said in faults:
        with pytest.raises(ValueError, match=said):
            backend_rules.check(written(tmp_path, *documents))


def test_what_is_no_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("a: [1")
    with pytest.raises(ValueError, match="would refuse spec.yaml"):
        backend_rules.check(path)
