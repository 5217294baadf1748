"""The manifests as a cluster would get them, and what their commands would be told."""

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
# Every folder that is applied by itself.
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
def _rendered(target: str) -> str:
    # .ci/run installs kustomize where kubectl is Debian's own, which is too old for these files.
    own = FOLDER.parent / ".tools" / "bin" / "kustomize"
    command = [str(own), "build"] if own.is_file() else ["kubectl", "kustomize"]
    return subprocess.run([*command, str(FOLDER / target)], check=True, capture_output=True, text=True).stdout


def rendered(target: str) -> list[Document]:
    """The objects that ``kubectl apply -k`` would send; made anew at each call, so that a test may change them."""
    # The C loader is ten times as fast, and there unless PyYAML was built without it.
    return [one for one in yaml.load_all(_rendered(target), getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if one]


def tool(name: str) -> str:
    """A program that `.ci/run` installs; elsewhere its tests are skipped."""
    found = shutil.which(name) or shutil.which(name, path=str(FOLDER.parent / ".venv" / "bin"))
    if not found and not os.environ.get("CI"):
        pytest.skip(f"{name} is not installed")
    assert found, f"{name} is not installed"
    return found


def valid(document: Document) -> None:
    """Raises an error if the API server would not take it, or it has a field that nobody knows."""
    kubernetes_validate.validate(document, VERSION, strict=True)


def templates(documents: Sequence[Document]) -> Iterator[tuple[str, Document]]:
    """Every pod that the objects would make: whose it is, and its template."""
    for one in documents:
        name = f"{one['kind']}/{one['metadata']['name']}"
        if one["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield name, one["spec"]["template"]
        elif one["kind"] == "CronJob":
            yield name, one["spec"]["jobTemplate"]["spec"]["template"]
        elif one["kind"] == "TFJob":
            for role, replica in one["spec"]["tfReplicaSpecs"].items():
                yield f"{name}/{role}", replica["template"]
        elif one["kind"] == "FlinkDeployment":
            for role in ("jobManager", "taskManager"):
                yield f"{name}/{role}", _flink_pod(one["spec"], role)


def _flink_pod(spec: Document, role: str) -> Document:
    """The pod that Flink's operator makes of the common template, the role's own, the image and the role's resources."""
    common, own = deepcopy(spec["podTemplate"]), deepcopy(spec[role].get("podTemplate", {"spec": {}}))
    (main,) = common["spec"]["containers"]
    size = {name: str(value).replace("m", "M") for name, value in spec[role]["resource"].items()}
    main |= {"image": spec["image"], "resources": {"requests": size, "limits": size}}
    common["spec"]["containers"] += own["spec"].get("containers", [])
    common["spec"]["volumes"] += own["spec"].get("volumes", [])
    common["spec"]["serviceAccountName"] = spec["serviceAccount"]
    return common


def containers(documents: Sequence[Document]) -> Iterator[tuple[str, Document, Document]]:
    """Every container: its name, its pod's spec, itself."""
    for name, template in templates(documents):
        spec = template["spec"]
        for one in (*spec.get("initContainers", ()), *spec["containers"]):
            yield f"{name}/{one['name']}", spec, one


def words(container: Document) -> list[str]:
    """The whole command line; where the image brings its command, only what that is told."""
    return [*container.get("command", ()), *container.get("args", ())]


def check_words(line: Sequence[str]) -> None:
    """Parses a command line by the very parser of the program that it starts, and runs nothing.

    Raises:
        ValueError: if the program does not exist or would not take a word, saying which.
    """
    program, *rest = line
    if program in ("tensorflow_model_server", "showcase-model-server"):
        from serving.server import flags

        flags._split(rest)
    elif program == "showcase":
        _click(rest)
    elif program == "python" and rest[0] == "-m":
        _argparse(rest[1], rest[2:])
    else:
        raise ValueError(f"There is no program '{program}'.")


def _click(rest: Sequence[str]) -> None:
    import typer

    from cli.main import app

    commands = typer.main.get_command(app).commands
    if rest[0] not in commands:
        raise ValueError(f"There is no command '{rest[0]}'.")
    try:
        commands[rest[0]].make_context(rest[0], list(rest[1:]))
    except Exception as error:  # typer may bring a click of its own, whose errors are not click's
        if not hasattr(error, "format_message"):
            raise
        raise ValueError(error.format_message()) from None


def _argparse(module: str, rest: Sequence[str]) -> None:
    try:
        parser = import_module(module).parser()
    except ModuleNotFoundError as error:
        raise ValueError(f"There is no module '{error.name}'.") from None

    def refuse(message: str) -> None:
        raise ValueError(message)

    parser.error = refuse
    parser.parse_args(list(rest))


def faults(documents: Sequence[Document]) -> list[str]:
    """What a pod of ours lacks of what each has to have."""
    found = []
    for name, spec, one in containers(documents):
        lasting = name.startswith(("Deployment", "StatefulSet"))
        if lasting:
            found += [
                f"{name}: no {kind}" for kind in ("startupProbe", "readinessProbe", "livenessProbe") if kind not in one
            ]
        limits = one.get("resources", {})
        found += [
            f"{name}: no {kind} of {what}"
            for kind in ("requests", "limits")
            for what in ("cpu", "memory")
            if what not in limits.get(kind, {})
        ]
        tag = one["image"].rpartition("/")[2].partition(":")[2]
        found += [f"{name}: image {one['image']} is not pinned"] if tag in ("", "latest") else []
        held, pod = one.get("securityContext", {}), spec.get("securityContext", {})
        wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        found += [f"{name}: {key} is not {value}" for key, value in wanted.items() if held.get(key) != value]
        if (
            not pod.get("runAsNonRoot")
            or not pod.get("runAsUser")
            or pod.get("seccompProfile") != {"type": "RuntimeDefault"}
        ):
            found.append(f"{name}: it may run as root, or without seccomp")
        if spec.get("automountServiceAccountToken") is not False and not spec.get("serviceAccountName", "").endswith(
            "trigger"
        ):
            found.append(f"{name}: it gets a token that it does not need")
        volumes = {volume["name"] for volume in spec.get("volumes", ())} | {"metadata"}
        found += [f"{name}: no volume {m['name']}" for m in one.get("volumeMounts", ()) if m["name"] not in volumes]
    return found
