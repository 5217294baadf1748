"""Deployment settings of a pipeline on a cluster, read from TOML: image, volume, resources by node, secret references."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pipeline.checkout import ROOT
from pipeline.local.flink import flink_cluster
from pipeline.runtime import IN_PROCESS, NO_IMAGE, BeamRunner, Runtime
from serving import bucket

DEFAULT_FILE = ROOT / "kubernetes" / "pipeline.toml"
TYPE_NAMES = {str: "text", int: "a whole number", bool: "true or false"}


@dataclass(frozen=True)
class Resources:
    """Resources and node selector of a pod.

    Attributes:
        cpu: Requested CPU as a Kubernetes quantity.
        memory: Requested memory as a Kubernetes quantity.
        cpu_limit: Largest CPU as a Kubernetes quantity; empty for the requested one.
        memory_limit: Largest memory as a Kubernetes quantity; empty for the requested one.
        accelerator: Resource name of an accelerator; empty for none.
        accelerators: Number of accelerators.
        selector: Node selector: labels of the machines that the pod may run on.
        retries: Number of retries of the task; -1 for the deployment's default.
    """

    cpu: str = "1"
    memory: str = "2Gi"
    cpu_limit: str = ""
    memory_limit: str = ""
    accelerator: str = ""
    accelerators: int = 0
    selector: Mapping[str, str] = field(default_factory=dict)
    retries: int = -1


@dataclass(frozen=True)
class Secret:
    """Reference to the Kubernetes secret that holds an environment variable's value; no file here contains the value."""

    secret: str
    key: str
    optional: bool = False


@dataclass(frozen=True)
class Deployment:
    """Deployment settings of all tasks.

    Attributes:
        image: Container image of every task.
        root: Folder of the shared state in every pod, or its s3:// or gs:// URI in a bucket.
        volume: Persistent volume claim that is mounted there; empty if the image provides the folder.
        metadata: Address of the metadata store.
        tracking: Address of the experiment tracker; empty for none.
        flink: HOST:PORT of Beam's job server; empty to run Beam in each task's own pod.
        retries: Number of retries of a task, with exponential backoff.
        user: User id that tasks run as.
        placement_seconds: How long a pod may wait for a machine before its task fails; for Jobs only, as Kubeflow waits
            without end.
        environment: Plain environment variables.
        secrets: Environment variables from secrets.
        default: Resources of a node that is not listed.
        nodes: Resources by node name; missing fields are taken from the default.
    """

    image: str
    root: str
    volume: str = ""
    metadata: str = ""
    tracking: str = ""
    flink: str = ""
    retries: int = 2
    user: int = 10001
    placement_seconds: int = 600
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    default: Resources = Resources()
    nodes: Mapping[str, Resources] = field(default_factory=dict)

    def resources_for(self, node: str) -> Resources:
        return self.nodes.get(node, self.default)

    def retries_for(self, node: str) -> int:
        node_retries = self.resources_for(node).retries
        return self.retries if node_retries < 0 else node_retries


def read_deployment(path: Path = DEFAULT_FILE) -> Deployment:
    """Read the deployment settings from a TOML file.

    Raises:
        ValueError: for an unknown key, a value of a wrong type or a missing key, with its name and section.
        OSError: if the file cannot be read.
    """
    try:
        document = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}.") from None
    default = document.pop("default", {})
    nodes = {
        name: _parse_section(Resources, {**default, **section}, f"{path}, nodes.{name}")
        for name, section in document.pop("nodes", {}).items()
    }
    secrets = {
        name: _parse_section(Secret, section, f"{path}, secrets.{name}")
        for name, section in document.pop("secrets", {}).items()
    }
    parts = {"default": _parse_section(Resources, default, f"{path}, default"), "nodes": nodes, "secrets": secrets}
    return check_root(_parse_section(Deployment, {**document, **parts}, str(path)))


def place_in(deployment: Deployment, home: Path) -> Deployment:
    """Return the deployment with the bucket of a home as its root; unchanged for a home that is a folder."""
    uri = bucket.uri_of(home)
    return check_root(replace(deployment, root=uri, volume="")) if uri else deployment


def check_root(deployment: Deployment) -> Deployment:
    """Return the deployment if its root suits its volume and its metadata.

    Raises:
        ValueError: for a bucket with a volume, without a metadata server, or with Flink.
    """
    if "://" in deployment.root:
        bucket.working_copy(deployment.root)
        if deployment.volume:
            raise ValueError(f"The root {deployment.root} is in a bucket, so `volume` has to be empty.")
        if not deployment.metadata:
            raise ValueError(f"The root {deployment.root} is in a bucket, so `metadata` has to name a metadata server.")
        if deployment.flink:
            raise ValueError(
                f"The root {deployment.root} is in a bucket, but Flink's workers read files; leave `flink` empty."
            )
    return deployment


def _parse_section(section_class: type, values: Mapping[str, Any], location: str) -> Any:
    known_fields = {entry.name: entry for entry in fields(section_class)}
    for name, value in values.items():
        if name not in known_fields:
            raise ValueError(f"{location}: unknown key '{name}'; known keys are {', '.join(known_fields)}.")
        expected_type = known_fields[name].type if isinstance(known_fields[name].type, type) else None
        if expected_type in TYPE_NAMES and type(value) is not expected_type:
            raise ValueError(f"{location}: '{name}' takes {TYPE_NAMES[expected_type]}, not {value!r}.")
    try:
        return section_class(**values)
    except TypeError as error:
        raise ValueError(f"{location}: {str(error).partition(') ')[2] or error}.") from None


def pod_runtime(root: str, database: str, tracking: str = "", flink: str = "") -> Runtime:
    """Return the runtime of one pod per stage; all pods share a volume or a bucket, and a metadata server.

    Args:
        root: Folder of the volume, or s3:// or gs:// URI of a folder in a bucket.
        database: Address of the metadata store's server.
        tracking: Address of the experiment tracker; empty for none.
        flink: HOST:PORT of Beam's job server; empty to run Beam in the stage's own pod.

    Raises:
        ValueError: for a root that is a URL of another kind than those of a bucket.
    """
    if "://" in root:
        root = str(bucket.working_copy(root))
    beam = BeamRunner((*flink_cluster.beam_args(flink), NO_IMAGE)) if flink else IN_PROCESS
    return Runtime(root, beam, tracking=tracking or "none", database=database)
