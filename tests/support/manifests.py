"""The rendered manifests, their pods, and checks of their command lines."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "kubernetes"
# Every folder that can be applied.
TARGETS = (
    "base",
    "overlays/laptop",
    "overlays/production",
    "training/multiworker",
    "training/parameter-server",
    "kserve",
    "flink",
)
VERSION = "1.30"
CRDS = ("TFJob", "InferenceService", "FlinkDeployment")
Document = dict[str, Any]


@cache
def _kustomize(target: str) -> str:
    # .ci/run installs kustomize if kubectl is Debian's own, which is too old for these files.
    own = FOLDER.parent / ".tools" / "bin" / "kustomize"
    command = [str(own), "build"] if own.is_file() else ["kubectl", "kustomize"]
    return subprocess.run([*command, str(FOLDER / target)], check=True, capture_output=True, text=True).stdout


def render_manifests(target: str) -> list[Document]:
    """Return the objects that ``kubectl apply -k`` would send; each call creates new ones, which a test may change."""
    # The C loader is ten times as fast, but PyYAML may be built without it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [document for document in yaml.load_all(_kustomize(target), loader) if document]


def require_tool(name: str) -> str:
    """Return the path of a program that `.ci/run` installs; without it skip, or fail under CI."""
    program = shutil.which(name) or shutil.which(name, path=str(FOLDER.parent / ".venv" / "bin"))
    if not program and not os.environ.get("CI"):
        pytest.skip(f"{name} is not installed")
    assert program, f"{name} is not installed"
    return program


def validate_object(document: Document) -> None:
    """Validate an object against the API's schema; an unknown field is an error."""
    kubernetes_validate.validate(document, VERSION, strict=True)


def list_pod_templates(documents: Sequence[Document]) -> Iterator[tuple[str, Document]]:
    """Yield the name and the template of every pod that the objects would create."""
    for document in documents:
        name = f"{document['kind']}/{document['metadata']['name']}"
        if document["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield name, document["spec"]["template"]
        elif document["kind"] == "CronJob":
            yield name, document["spec"]["jobTemplate"]["spec"]["template"]
        elif document["kind"] == "TFJob":
            for role, replica in document["spec"]["tfReplicaSpecs"].items():
                yield f"{name}/{role}", replica["template"]
        elif document["kind"] == "FlinkDeployment":
            for role in ("jobManager", "taskManager"):
                yield f"{name}/{role}", _flink_pod(document["spec"], role)


def _flink_pod(spec: Document, role: str) -> Document:
    """Build the pod that Flink's operator creates from the common template, the role's template, image and resources."""
    common, own = deepcopy(spec["podTemplate"]), deepcopy(spec[role].get("podTemplate", {"spec": {}}))
    (main,) = common["spec"]["containers"]
    size = {name: str(value).replace("m", "M") for name, value in spec[role]["resource"].items()}
    main |= {"image": spec["image"], "resources": {"requests": size, "limits": size}}
    common["spec"]["containers"] += own["spec"].get("containers", [])
    common["spec"]["volumes"] += own["spec"].get("volumes", [])
    common["spec"]["serviceAccountName"] = spec["serviceAccount"]
    return common


def list_containers(documents: Sequence[Document]) -> Iterator[tuple[str, Document, Document]]:
    """Yield the name, the pod spec and the container, for every container."""
    for name, template in list_pod_templates(documents):
        spec = template["spec"]
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            yield f"{name}/{container['name']}", spec, container


def command_line(container: Document) -> list[str]:
    """Return the command line; without a command of the container, only the arguments of the image's command."""
    return [*container.get("command", ()), *container.get("args", ())]


def check_command_line(line: Sequence[str]) -> None:
    """Parse a command line with the parser of its program, without running it.

    Raises:
        ValueError: if the program does not exist or does not accept an argument; names it.
    """
    program, *rest = line
    if program in ("tensorflow_model_server", "showcase-model-server"):
        from serving.server import flags

        flags._split(rest)
    elif program == "showcase":
        _check_showcase(rest)
    elif program == "sh" and rest[0] == "-c":
        checked = subprocess.run(["sh", "-n", "-c", rest[1]], capture_output=True, text=True)
        if checked.returncode:
            raise ValueError(checked.stderr)
    elif program == "python" and rest[0] == "-m":
        _check_module(rest[1], rest[2:])
    else:
        raise ValueError(f"There is no program '{program}'.")


def _check_showcase(rest: Sequence[str]) -> None:
    import typer

    from cli.main import app

    commands = typer.main.get_command(app).commands
    if rest[0] not in commands:
        raise ValueError(f"There is no command '{rest[0]}'.")
    try:
        commands[rest[0]].make_context(rest[0], list(rest[1:]))
    except Exception as error:  # typer may contain its own click, whose errors are other classes
        if not hasattr(error, "format_message"):
            raise
        raise ValueError(error.format_message()) from None


def _check_module(module: str, rest: Sequence[str]) -> None:
    try:
        parser = import_module(module).build_parser()
    except ModuleNotFoundError as error:
        raise ValueError(f"There is no module '{error.name}'.") from None

    def refuse(message: str) -> None:
        raise ValueError(message)

    parser.error = refuse
    parser.parse_args(list(rest))


def find_faults(documents: Sequence[Document]) -> list[str]:
    """List missing probes, resources and security settings of our pods."""
    problems = []
    for name, spec, container in list_containers(documents):
        is_server = name.startswith(("Deployment", "StatefulSet")) and container in spec["containers"]
        if is_server:
            problems += [
                f"{name}: no {kind}"
                for kind in ("startupProbe", "readinessProbe", "livenessProbe")
                if kind not in container
            ]
        limits = container.get("resources", {})
        problems += [
            f"{name}: no {kind} of {resource}"
            for kind in ("requests", "limits")
            for resource in ("cpu", "memory")
            if resource not in limits.get(kind, {})
        ]
        tag = container["image"].rpartition("/")[2].partition(":")[2]
        problems += [f"{name}: image {container['image']} is not pinned"] if tag in ("", "latest") else []
        security, pod = container.get("securityContext", {}), spec.get("securityContext", {})
        required = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        problems += [f"{name}: {key} is not {value}" for key, value in required.items() if security.get(key) != value]
        if (
            not pod.get("runAsNonRoot")
            or not pod.get("runAsUser")
            or pod.get("seccompProfile") != {"type": "RuntimeDefault"}
        ):
            problems.append(f"{name}: it may run as root, or without seccomp")
        if spec.get("automountServiceAccountToken") is not False and not spec.get("serviceAccountName", "").endswith(
            "trigger"
        ):
            problems.append(f"{name}: it gets a token that it does not need")
        volumes = {volume["name"] for volume in spec.get("volumes", ())} | {"metadata"}
        mounts = container.get("volumeMounts", ())
        problems += [f"{name}: no volume {mount['name']}" for mount in mounts if mount["name"] not in volumes]
    return problems
