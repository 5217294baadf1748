"""The tasks of a compiled spec as Kubeflow's launcher would start them: container, environment, resources, order."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.kubeflow import backend_rules

JOB_ID = "{{$.pipeline_job_uuid}}"
EXECUTOR_INPUT = "{{$}}"
# Where Kubeflow's launcher has a task write its outputs.
OUTPUT_FILE = "/tmp/kfp_outputs/output_metadata.json"


@dataclass(frozen=True)
class TaskSpec:
    """One task of a run.

    Attributes:
        name: Kubernetes name of the task, such as ``span-example-gen``.
        title: Name of the node, such as ``SpanExampleGen``.
        upstream: Names of the tasks that have to succeed first.
        container: Container of the pod, in Kubernetes' form.
        volumes: Volumes of the pod, in Kubernetes' form.
        security_context: Security context of the pod, in Kubernetes' form.
        node_selector: Labels of the machines that the pod may run on.
        retries: Number of retries of a failed pod.
    """

    name: str
    title: str
    upstream: tuple[str, ...]
    container: Mapping[str, Any]
    volumes: tuple[Mapping[str, Any], ...] = ()
    security_context: Mapping[str, Any] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    retries: int = 0


def read_tasks(path: Path, run: str) -> list[TaskSpec]:
    """Read the tasks of a compiled spec, for a run with the spec's default arguments.

    Args:
        path: A spec written by `showcase compile`.
        run: Id of the run, which Kubeflow would assign.

    Raises:
        ValueError: if the file is not a pipeline spec, or uses what a Job cannot do.
    """
    from google.protobuf import json_format

    spec, platform = backend_rules.read_specs(path)
    document = json_format.MessageToDict(spec)
    arguments = {
        name: entry.get("defaultValue", "")
        for name, entry in document["root"].get("inputDefinitions", {}).get("parameters", {}).items()
    }
    settings = platform.get("deploymentSpec", {}).get("executors", {})
    tasks = []
    for name, task in document["root"]["dag"]["tasks"].items():
        label = document["components"][task["componentRef"]["name"]]["executorLabel"]
        container = document["deploymentSpec"]["executors"][label]["container"]
        parameters = dict(_parameters(task, arguments, run))
        tasks.append(_make_task(name, task, container, settings.get(label, {}), parameters))
    return tasks


def _parameters(task: Mapping[str, Any], arguments: Mapping[str, Any], run: str) -> Iterator[tuple[str, Any]]:
    for name, source in task.get("inputs", {}).get("parameters", {}).items():
        if "componentInputParameter" in source:
            yield name, arguments[source["componentInputParameter"]]
        elif "constant" in source.get("runtimeValue", {}):
            value = source["runtimeValue"]["constant"]
            yield name, run if value == JOB_ID else value
        else:
            raise ValueError(
                f"The parameter {name} of {task['taskInfo']['name']} is an output, which Jobs do not pass on."
            )


def _make_task(
    name: str,
    task: Mapping[str, Any],
    container: Mapping[str, Any],
    settings: Mapping[str, Any],
    parameters: Mapping[str, Any],
) -> TaskSpec:
    executor_input = json.dumps({"inputs": {"parameterValues": parameters}, "outputs": {"outputFile": OUTPUT_FILE}})
    mounts = [(mount["constant"], mount["mountPath"]) for mount in settings.get("pvcMount", ())]
    return TaskSpec(
        name=name,
        title=task["taskInfo"]["name"],
        upstream=tuple(task.get("dependentTasks", ())),
        container={
            "name": "main",
            "image": container["image"],
            "imagePullPolicy": "IfNotPresent",
            "command": container["command"],
            "args": [executor_input if word == EXECUTOR_INPUT else word for word in container["args"]],
            "env": [*container.get("env", ()), *_secret_variables(settings)],
            "resources": _resources(container.get("resources", {})),
            "volumeMounts": [{"name": claim, "mountPath": folder} for claim, folder in mounts],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        },
        volumes=tuple({"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim, _ in mounts),
        security_context=_security_context(settings.get("securityContext", {})),
        node_selector=settings.get("nodeSelector", {}).get("labels", {}),
        retries=int(task.get("retryPolicy", {}).get("maxRetryCount", 0)),
    )


def _security_context(settings: Mapping[str, Any]) -> dict[str, Any]:
    context: dict[str, Any] = {"seccompProfile": {"type": "RuntimeDefault"}}
    if "runAsUser" in settings:
        user = int(settings["runAsUser"])
        # The volume's files belong to the user's group, as in the other pods of the manifests.
        context |= {"runAsUser": user, "runAsGroup": user, "fsGroup": user}
    return context | ({"runAsNonRoot": True} if settings.get("runAsNonRoot") else {})


def _secret_variables(settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for secret in settings.get("secretAsEnv", ()):
        for pair in secret["keyToEnv"]:
            reference = {"name": secret["secretName"], "key": pair["secretKey"]}
            reference |= {"optional": True} if secret.get("optional") else {}
            yield {"name": pair["envVar"], "valueFrom": {"secretKeyRef": reference}}


def _resources(settings: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    pairs = {"cpu": "Cpu", "memory": "Memory"}
    resources = {
        kind: {name: settings[f"resource{key}{kind[:-1].capitalize()}"] for name, key in pairs.items()}
        for kind in ("requests", "limits")
        if all(f"resource{key}{kind[:-1].capitalize()}" in settings for key in pairs.values())
    }
    if accelerator := settings.get("accelerator"):
        count = {accelerator["resourceType"]: accelerator["resourceCount"]}
        resources = {kind: {**values, **count} for kind, values in resources.items()}
    return resources
