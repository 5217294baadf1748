"""The runtime of this machine and its Beam runners."""

import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from pipeline.local.flink import flink_cluster
from pipeline.metadata.store_address import MetadataAddress
from pipeline.runtime import IN_PROCESS, NO_IMAGE, BeamRunner, Runtime


def direct_runner() -> BeamRunner:
    """Run Beam in the stage's own process."""
    return IN_PROCESS


def multiprocess_runner() -> BeamRunner:
    """Run Beam in one process per core.

    Each process has to import TFX first, because TFX installs a compatibility module that TFDV needs; only the DirectRunner
    passes ``--beam_plugins`` to its workers. With an update compatibility version, here its own, it does not look for Prism.
    """
    workers = len(os.sched_getaffinity(0))
    return BeamRunner(
        (
            "--runner=DirectRunner",
            f"--update_compatibility_version={version('apache-beam')}",
            "--beam_plugins=tfx",
            "--direct_running_mode=multi_processing",
            f"--direct_num_workers={workers}",
            NO_IMAGE,
        )
    )


def flink_runner() -> BeamRunner:
    """Run Beam on Flink, which starts and ends with the run.

    Raises:
        ValueError: if this machine has no Java or no Flink jars.
    """
    local = flink_cluster.Flink.on_free_ports()
    return BeamRunner((*local.args, NO_IMAGE), local.run, local.address)


RUNNERS: dict[str, Callable[[], BeamRunner]] = {
    "direct": direct_runner,
    "multiprocess": multiprocess_runner,
    "flink": flink_runner,
}


def local_runtime(home: Path, tracking: str = "", runner: str = "direct") -> Runtime:
    """Return the runtime of this machine with one of the Beam ``RUNNERS``.

    Raises:
        ValueError: for an unknown runner, or one that this machine cannot run.
    """
    if runner not in RUNNERS:
        raise ValueError(f"There is no runner '{runner}'; there are {', '.join(RUNNERS)}.")
    return Runtime(str(home.resolve()), RUNNERS[runner](), tracking=tracking, database=MetadataAddress.of(home).server)
