"""Validation rules of the Kubeflow Pipelines backend for a pipeline spec, ported from its API server and Argo compiler.

TFX's own runner writes specs that the SDK accepts and the backend rejects, so the SDK's validation is not sufficient. The
rules are those of ``backend/src/apiserver/template/v2_template.go`` and ``backend/src/v2/compiler`` of kubeflow/pipelines.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from kfp.pipeline_spec.pipeline_spec_pb2 import ComponentSpec, PipelineSpec

SCHEMA = "2.1.0"
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # Argo names templates and pods after tasks


def check_spec(path: Path) -> None:
    """Check a compiled pipeline against the backend's rules.

    Raises:
        ValueError: naming the first rule that is violated.
    """
    spec, platform = read_specs(path)
    info = spec.pipeline_info.name
    _require(spec.schema_version == SCHEMA, f"schema version must be {SCHEMA}, not '{spec.schema_version}'")
    _require(bool(NAME.fullmatch(info)), f"'{info}' is not a valid name: use lower case letters, digits, '-' and '.'")
    _require(spec.HasField("root"), "the root component is empty")
    _require("root" not in spec.components, "a component must not be called 'root'")
    executors = _executors(spec)
    _walk(spec, "root", spec.root, executors, ())
    for label in platform.get("deploymentSpec", {}).get("executors", {}):
        _require(label in executors, f"the Kubernetes settings name '{label}', which is not an executor")


def read_specs(path: Path) -> tuple["PipelineSpec", dict[str, Any]]:
    """Read the pipeline spec in a file and the Kubernetes platform spec after it; the latter is empty if absent.

    Raises:
        ValueError: if the file is not a pipeline spec; an unknown field is an error, as in the backend.
    """
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2 as protos

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader, where available, is ten times as fast
        parts = [part for part in yaml.load_all(path.read_text(), loader) if part]
        specs = [part for part in parts if "pipelineInfo" in part]
        platforms = [part for part in parts if "kubernetes" in part.get("platforms", {})]
        _require(len(specs) == 1, f"it has {len(specs)} pipeline specs; exactly one is required")
        _require(len(platforms) <= 1, "it has more than one platform spec")
        spec = json_format.ParseDict(specs[0], protos.PipelineSpec())
        for part in platforms:
            json_format.ParseDict(part, protos.PlatformSpec())
    except (yaml.YAMLError, json_format.ParseError, AttributeError) as error:
        raise ValueError(f"The backend would refuse {path.name}: {str(error).splitlines()[0]}.") from None
    return spec, platforms[0]["platforms"]["kubernetes"] if platforms else {}


def _executors(spec: "PipelineSpec") -> dict[str, Any]:
    from google.protobuf import json_format

    return json_format.MessageToDict(spec.deployment_spec).get("executors", {})


def _walk(
    spec: "PipelineSpec", name: str, component: "ComponentSpec", executors: dict[str, Any], ancestors: tuple[str, ...]
) -> None:
    """Check a component and its descendants."""
    _require(name not in ancestors, f"component '{name}' contains itself")
    if component.executor_label:
        label = component.executor_label
        _require(label in executors, f"component '{name}' has no executor '{label}'")
        executor = executors[label]
        is_known_kind = "container" in executor or "importer" in executor
        _require(is_known_kind, f"executor '{label}' is neither a container nor an importer")
        _require("importer" in executor or bool(executor["container"].get("image")), f"component '{name}' has no image")
        return
    _require(component.HasField("dag"), f"component '{name}' has neither an executor nor tasks")
    for key, task in component.dag.tasks.items():
        _require(
            bool(LABEL.fullmatch(key)),
            f"'{key}' is not a valid task name: use at most 63 lower case letters, digits and '-'",
        )
        child = task.component_ref.name
        _require(child in spec.components, f"task '{key}' refers to component '{child}', which does not exist")
        for upstream in task.dependent_tasks:
            _require(
                upstream in component.dag.tasks, f"task '{key}' depends on task '{upstream}', which does not exist"
            )
        _walk(spec, child, spec.components[child], executors, (*ancestors, name))


def _require(rule: bool, fault: str) -> None:
    if not rule:
        raise ValueError(f"The backend would refuse this pipeline: {fault}.")
