"""The rules by which Kubeflow Pipelines' backend takes or refuses a spec, ported from its API server and its Argo compiler.

TFX's own runner writes specs that the SDK takes and the backend refuses, so that the SDK's word proves nothing. The rules are
those of ``backend/src/apiserver/template/v2_template.go`` and ``backend/src/v2/compiler`` of kubeflow/pipelines.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from kfp.pipeline_spec.pipeline_spec_pb2 import ComponentSpec, PipelineSpec

SCHEMA = "2.1.0"
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # Argo makes templates and pods of tasks


def check(path: Path) -> None:
    """Refuses a compiled pipeline that the backend would refuse.

    Raises:
        ValueError: naming the first rule that is broken.
    """
    spec, platform = documents(path)
    info = spec.pipeline_info.name
    _hold(spec.schema_version == SCHEMA, f"schema version {SCHEMA} is the only one, not '{spec.schema_version}'")
    _hold(bool(NAME.fullmatch(info)), f"'{info}' is no name: lower case letters, digits, '-' and '.'")
    _hold(spec.HasField("root"), "the root component is empty")
    _hold("root" not in spec.components, "a component may not be called 'root'")
    executors = _executors(spec)
    _walk(spec, "root", spec.root, executors, ())
    for label in platform.get("deploymentSpec", {}).get("executors", {}):
        _hold(label in executors, f"the Kubernetes settings of '{label}' belong to no executor")


def documents(path: Path) -> tuple["PipelineSpec", dict[str, Any]]:
    """The spec in a file, and the part on Kubernetes that follows it; empty where there is none.

    Raises:
        ValueError: if the file is no such spec: an unknown field is refused, as the backend does.
    """
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2 as protos

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML has it: ten times as fast
        found = [one for one in yaml.load_all(path.read_text(), loader) if one]
        specs = [one for one in found if "pipelineInfo" in one]
        platforms = [one for one in found if "kubernetes" in one.get("platforms", {})]
        _hold(len(specs) == 1, f"it has {len(specs)} pipeline specs, and one is needed")
        _hold(len(platforms) <= 1, "it has several platform specs")
        spec = json_format.ParseDict(specs[0], protos.PipelineSpec())
        for one in platforms:
            json_format.ParseDict(one, protos.PlatformSpec())
    except (yaml.YAMLError, json_format.ParseError, AttributeError) as error:
        raise ValueError(f"The backend would refuse {path.name}: {str(error).splitlines()[0]}.") from None
    return spec, platforms[0]["platforms"]["kubernetes"] if platforms else {}


def _executors(spec: "PipelineSpec") -> dict[str, Any]:
    from google.protobuf import json_format

    return json_format.MessageToDict(spec.deployment_spec).get("executors", {})


def _walk(
    spec: "PipelineSpec", name: str, component: "ComponentSpec", executors: dict[str, Any], above: tuple[str, ...]
) -> None:
    """Visits a component and those below it."""
    _hold(name not in above, f"component '{name}' contains itself")
    if component.executor_label:
        label = component.executor_label
        _hold(label in executors, f"component '{name}' has no executor '{label}'")
        executor = executors[label]
        kinds = "container" in executor or "importer" in executor
        _hold(kinds, f"executor '{label}' is neither a container nor an importer")
        _hold("importer" in executor or bool(executor["container"].get("image")), f"component '{name}' has no image")
        return
    _hold(component.HasField("dag"), f"component '{name}' has neither an executor nor tasks")
    for key, one in component.dag.tasks.items():
        _hold(
            bool(LABEL.fullmatch(key)), f"'{key}' is no name of a task: at most 63 lower case letters, digits and '-'"
        )
        below = one.component_ref.name
        _hold(below in spec.components, f"task '{key}' is of component '{below}', which there is not")
        for before in one.dependent_tasks:
            _hold(before in component.dag.tasks, f"task '{key}' comes after '{before}', which there is not")
        _walk(spec, below, spec.components[below], executors, (*above, name))


def _hold(rule: bool, otherwise: str) -> None:
    if not rule:
        raise ValueError(f"The backend would refuse this pipeline: {otherwise}.")
