"""Where a graph runs."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pipeline.flink import cluster
from pipeline.metadata import FILE, MetadataAddress


def nothing(logs: Path) -> AbstractContextManager[None]:
    """What runs beside the stages, mostly."""
    return nullcontext()


@dataclass(frozen=True)
class Beam:
    """Who carries the Beam work.

    Attributes:
        args: Pipeline options for every Beam stage.
        beside: Starts what has to run for as long as the stages do; it gets the folder for logs.
        page: Address where the work can be watched; empty for none.
    """

    args: tuple[str, ...]
    beside: Callable[[Path], AbstractContextManager[None]] = nothing
    page: str = ""


@dataclass(frozen=True)
class Runtime:
    """Where artifacts, metadata and pushed models go, and who carries the Beam work; places differ by value only.

    Attributes:
        root: Folder or URL under which everything lies.
        beam: Who carries the Beam work.
        workers: Stages that run side by side.
        tracking: Address of the experiment tracker; empty for a SQLite file under the root, ``none`` for none.
        database: Address of the metadata store's server; empty for a SQLite file under the root.
    """

    root: str
    beam: Beam
    workers: int = 2
    tracking: str = ""
    database: str = ""

    @property
    def beam_args(self) -> tuple[str, ...]:
        """Pipeline options for every Beam stage."""
        return self.beam.args

    @property
    def metadata(self) -> MetadataAddress:
        """The metadata store: a server, or the SQLite file under the root."""
        return MetadataAddress(self.database or Path(self.root, FILE))

    def artifacts(self, case: str) -> str:
        """Root of a case's pipeline artifacts."""
        return f"{self.root}/{case}/artifacts"

    def versions(self, case: str) -> str:
        """Where a model server looks for versions of the case's model."""
        return f"{self.root}/{case}/versions"


# The default DirectRunner tries to download Prism first; without a container image TFX builds a source distribution.
NO_IMAGE = "--sdk_container_image=none"
IN_PROCESS = Beam(("--runner=FnApiRunner", NO_IMAGE))


def direct() -> Beam:
    """Beam in the stage's own process."""
    return IN_PROCESS


def multiprocess() -> Beam:
    """Beam in as many processes as there are cores.

    Each of them has to import TFX first, which puts a stand-in where TFDV needs one; only the DirectRunner tells them so. With
    a version to be compatible with, here its own, it does not look for Prism.
    """
    workers = len(os.sched_getaffinity(0))
    return Beam(
        (
            "--runner=DirectRunner",
            f"--update_compatibility_version={version('apache-beam')}",
            "--beam_plugins=tfx",
            "--direct_running_mode=multi_processing",
            f"--direct_num_workers={workers}",
            NO_IMAGE,
        )
    )


def flink() -> Beam:
    """Beam on Flink, which starts and ends with the run.

    Raises:
        ValueError: if this machine has no Java or no jars of Flink.
    """
    one = cluster.Flink.chosen()
    return Beam((*one.args, NO_IMAGE), one.running, one.address)


RUNNERS: dict[str, Callable[[], Beam]] = {"direct": direct, "multiprocess": multiprocess, "flink": flink}


def local(home: Path, tracking: str = "", runner: str = "direct") -> Runtime:
    """This machine; Beam by one of ``RUNNERS``.

    Raises:
        ValueError: for another runner, or one that cannot be on this machine.
    """
    if runner not in RUNNERS:
        raise ValueError(f"There is no runner '{runner}'; there are {', '.join(RUNNERS)}.")
    return Runtime(str(home.resolve()), RUNNERS[runner](), tracking=tracking, database=MetadataAddress.of(home).server)


def kubeflow(root: str, database: str, tracking: str = "", flink: str = "") -> Runtime:
    """A pod a stage: all see one volume, and one metadata server keeps them apart.

    Args:
        flink: HOST:PORT of Beam's job server; empty for Beam in the stage's own pod.

    Raises:
        ValueError: for a root that is no folder: our components read and write files.
    """
    if "://" in root:
        raise ValueError(f"The root is a folder that every pod mounts, not '{root}'; mount a bucket as a volume.")
    beam = Beam((*cluster.beam_args(flink), NO_IMAGE)) if flink else IN_PROCESS
    return Runtime(root, beam, tracking=tracking or "none", database=database)
