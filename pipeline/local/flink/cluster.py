"""Flink on this machine, for as long as a run: Beam's job server with Flink in it, and a pool of Python workers beside.

Each job gets a job manager and task managers of its own, within the job server's process, which end with it. To a cluster that
stays, Beam sends all its jars with every job, which takes longer here than most jobs do; on many machines (kubernetes/flink)
there is no other way.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.checkout import ROOT
from pipeline.local import processes
from pipeline.local.flink import worker_pool

# What `make flink` fetches.
JARS = ROOT / ".tools" / "flink"
HOST = worker_pool.HOST
# Flink's and Beam's own defaults; where one is taken, another is. Stages are cached by Beam's options too, so that a run that
# was stopped goes on where it was only if it finds the same ports.
PORTS = {"page": 8081, "jobs": 8099, "pool": worker_pool.PORT}
PAGES = 10  # ports from the first on, since two stages may run side by side
START = 180.0  # seconds until all has to answer
JOB_SERVER = "org.apache.beam.runners.flink.FlinkJobServerDriver"
# Flink and Kryo look into the JDK's own classes, which Java 17 shows to nobody unasked.
OPENED = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("lang", "net", "io", "nio", "util", "time")]
HEAP = "2g"
CONFIG = """
rest.address: {host}
rest.bind-address: {host}
rest.bind-port: {first}-{last}
jobmanager.bind-host: {host}
taskmanager.host: {host}
taskmanager.bind-host: {host}
taskmanager.numberOfTaskSlots: {cores}
parallelism.default: {cores}
taskmanager.memory.network.min: 256m
taskmanager.memory.network.max: 256m
# A graph of TFDV or TFMA has hundreds of edges; the usual 512 buffers for each would be gigabytes.
taskmanager.network.sort-shuffle.min-buffers: 16
io.tmp.dirs: '{scratch}'
"""


def beam_args(job_server: str, pool: str = f"{worker_pool.HOST}:{worker_pool.PORT}") -> tuple[str, ...]:
    """Pipeline options for Beam's stages on Flink.

    Args:
        job_server: HOST:PORT of Beam's job server, as the stage sees it.
        pool: HOST:PORT of the worker pool, as a task manager sees it.
    """
    return (
        "--runner=PortableRunner",
        f"--job_endpoint={job_server}",
        "--environment_type=EXTERNAL",
        f"--environment_config={pool}",
    )


@dataclass(frozen=True)
class Flink:
    """Both on ports of this machine; nothing runs before :meth:`running`."""

    page: int
    jobs: int
    pool: int

    @classmethod
    def chosen(cls) -> "Flink":
        """Ports that are free now; the usual ones, if they are.

        Raises:
            ValueError: if there is no Java, or no jars.
        """
        if not shutil.which("java"):
            raise ValueError("Beam on Flink needs Java 11 or 17, and there is no java on PATH.")
        if not list(JARS.glob("*.jar")):
            raise ValueError(f"Beam on Flink needs its jars in {JARS}, and there are none: run make flink.")
        return cls(
            **{
                name: usual if _is_free(usual) else other
                for (name, usual), other in zip(PORTS.items(), _free(len(PORTS)), strict=True)
            }
        )

    @property
    def address(self) -> str:
        """Where a job's pages and Flink's REST API are while it runs."""
        return f"http://{HOST}:{self.page}"

    @property
    def args(self) -> tuple[str, ...]:
        """Pipeline options for Beam's stages."""
        return beam_args(f"{HOST}:{self.jobs}", f"{HOST}:{self.pool}")

    @contextmanager
    def running(self, logs: Path) -> Iterator[None]:
        """Starts both and ends them; none outlives this process.

        Args:
            logs: Folder for a log a process, and for what Flink keeps meanwhile.

        Raises:
            RuntimeError: if one of them ends before all answer, or they do not answer in time; naming its log.
        """
        scratch = logs / "flink.tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        told = {
            "first": self.page,
            "last": self.page + PAGES - 1,
            "cores": len(os.sched_getaffinity(0)),
            "scratch": scratch,
        }
        (scratch / "config.yaml").write_text(CONFIG.format(host=HOST, **told))
        commands: dict[str, list[object]] = {
            "worker-pool": [sys.executable, "-m", worker_pool.__name__, "--host", HOST, "--port", self.pool],
            # The class path lists a folder, as Java itself can.
            "job-server": [
                "java",
                f"-Xmx{HEAP}",
                "-XX:+UseSerialGC",
                f"-Djava.io.tmpdir={scratch}",
                *OPENED,
                "-Dorg.slf4j.simpleLogger.showDateTime=true",
                "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
                "-cp",
                f"{JARS}/*",
                JOB_SERVER,
                "--flink-master=[local]",
                f"--flink-conf-dir={scratch}",
                f"--job-host={HOST}",
                f"--job-port={self.jobs}",
                "--artifact-port=0",
                "--expansion-port=-1",
                f"--artifacts-dir={scratch}/artifacts",
            ],
        }
        started: dict[str, subprocess.Popen[str]] = {}
        try:
            for name, command in commands.items():
                started[name] = processes.launch(command, logs / f"flink-{name}.log")
            self._wait(started, logs)
            yield
        finally:
            processes.end_all(started.values())
            shutil.rmtree(scratch, ignore_errors=True)

    def _wait(self, started: dict[str, subprocess.Popen[str]], logs: Path) -> None:
        deadline = time.monotonic() + START
        while not (_listens(self.pool) and _listens(self.jobs)):
            for name, child in started.items():
                if child.poll() is not None:
                    raise RuntimeError(f"Flink did not start: its {name} ended; {logs / f'flink-{name}.log'} says why.")
            if time.monotonic() > deadline:
                raise RuntimeError(f"Flink did not start within {START:.0f} s; {logs}/flink-*.log say how far it came.")
            time.sleep(0.2)


def _free(count: int) -> list[int]:
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _is_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        connection.settimeout(1)
        return connection.connect_ex((HOST, port)) == 0
