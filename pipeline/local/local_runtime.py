"""The runtime of this machine, and the Beam runners that it has."""

import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from pipeline.local.flink import cluster
from pipeline.metadata.store_address import MetadataAddress
from pipeline.runtime import IN_PROCESS, NO_IMAGE, Beam, Runtime


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


def local_runtime(home: Path, tracking: str = "", runner: str = "direct") -> Runtime:
    """This machine; Beam by one of ``RUNNERS``.

    Raises:
        ValueError: for another runner, or one that cannot be on this machine.
    """
    if runner not in RUNNERS:
        raise ValueError(f"There is no runner '{runner}'; there are {', '.join(RUNNERS)}.")
    return Runtime(str(home.resolve()), RUNNERS[runner](), tracking=tracking, database=MetadataAddress.of(home).server)
