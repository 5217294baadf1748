"""How the tasks of a pipeline run on a cluster: image, volume, resources by node, secrets by reference; from a TOML file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pipeline.checkout import ROOT
from pipeline.local.flink import cluster
from pipeline.runtime import IN_PROCESS, NO_IMAGE, Beam, Runtime

DEFAULT = ROOT / "kubernetes" / "pipeline.toml"
WORDS = {str: "text", int: "a whole number", bool: "true or false"}


@dataclass(frozen=True)
class Resources:
    """What a node's pod gets and where it may run.

    Attributes:
        cpu: Cores, as Kubernetes writes them; requested and limited alike.
        memory: Likewise.
        accelerator: Resource name of an accelerator; empty for none.
        accelerators: How many of it.
        selector: Labels of the machines that the pod may run on.
        retries: How often the task is tried again; -1 for as often as the others.
    """

    cpu: str = "1"
    memory: str = "2Gi"
    accelerator: str = ""
    accelerators: int = 0
    selector: Mapping[str, str] = field(default_factory=dict)
    retries: int = -1


@dataclass(frozen=True)
class Secret:
    """Where an environment variable's value comes from; the value itself is in no file of ours."""

    secret: str
    key: str
    optional: bool = False


@dataclass(frozen=True)
class Deployment:
    """All of it.

    Attributes:
        image: Image of every task.
        root: Folder that every pod sees.
        volume: Claim that is mounted there; empty where the image has it by itself.
        metadata: Address of the metadata store.
        tracking: Address of the experiment tracker; empty for none.
        flink: HOST:PORT of Beam's job server; empty for Beam in each task's own pod.
        retries: How often a task is tried again, with growing pauses.
        user: Number of the user that tasks run as.
        environment: Plain environment variables.
        secrets: Environment variables from secrets.
        default: Resources of a node that is not named.
        nodes: Resources by the node's name; what is left out is the default's.
    """

    image: str
    root: str
    volume: str = ""
    metadata: str = ""
    tracking: str = ""
    flink: str = ""
    retries: int = 2
    user: int = 10001
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    default: Resources = Resources()
    nodes: Mapping[str, Resources] = field(default_factory=dict)

    def of(self, node: str) -> Resources:
        """A node's resources."""
        return self.nodes.get(node, self.default)

    def retried(self, node: str) -> int:
        """How often a node is tried again."""
        own = self.of(node).retries
        return self.retries if own < 0 else own


def read(path: Path = DEFAULT) -> Deployment:
    """The deployment that a file describes.

    Raises:
        ValueError: for a key that means nothing, a value of a wrong type or a missing one; naming it.
        OSError: if the file cannot be read.
    """
    try:
        told = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is no TOML: {error}.") from None
    default = told.pop("default", {})
    nodes = {
        name: _of(Resources, {**default, **own}, f"{path}, nodes.{name}") for name, own in told.pop("nodes", {}).items()
    }
    secrets = {name: _of(Secret, one, f"{path}, secrets.{name}") for name, one in told.pop("secrets", {}).items()}
    parts = {"default": _of(Resources, default, f"{path}, default"), "nodes": nodes, "secrets": secrets}
    return _of(Deployment, {**told, **parts}, str(path))


def _of(kind: type, told: Mapping[str, Any], where: str) -> Any:
    known = {one.name: one for one in fields(kind)}
    for name, value in told.items():
        if name not in known:
            raise ValueError(f"{where}: there is no '{name}'; there are {', '.join(known)}.")
        wanted = known[name].type if isinstance(known[name].type, type) else None
        if wanted in WORDS and type(value) is not wanted:
            raise ValueError(f"{where}: '{name}' takes {WORDS[wanted]}, not {value!r}.")
    try:
        return kind(**told)
    except TypeError as error:
        raise ValueError(f"{where}: {str(error).partition(') ')[2] or error}.") from None


def pod_runtime(root: str, database: str, tracking: str = "", flink: str = "") -> Runtime:
    """A pod a stage: all see one volume, and one metadata server keeps them apart.

    Args:
        root: Folder of the volume.
        database: Address of the metadata store's server.
        tracking: Address of the experiment tracker; none if empty.
        flink: HOST:PORT of Beam's job server; empty for Beam in the stage's own pod.

    Raises:
        ValueError: for a root that is no folder: our components read and write files.
    """
    if "://" in root:
        raise ValueError(f"The root is a folder that every pod mounts, not '{root}'; mount a bucket as a volume.")
    beam = Beam((*cluster.beam_args(flink), NO_IMAGE)) if flink else IN_PROCESS
    return Runtime(root, beam, tracking=tracking or "none", database=database)
