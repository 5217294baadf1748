"""Flink on this machine for the duration of a run: Beam's job server with an embedded Flink, and a Python worker pool.

Each job gets its own job manager and task managers inside the job server's process, which end with the job. To a
long-running cluster Beam uploads all its jars with every job, which takes longer on one machine than most jobs do; on
several machines (kubernetes/flink) that is unavoidable.
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

from models.training.distribute.local_processes import find_free_ports
from pipeline.checkout import ROOT
from pipeline.local import processes
from pipeline.local.flink import worker_pool

# Filled by `make flink`.
JARS = ROOT / ".tools" / "flink"
HOST = worker_pool.HOST
# Defaults of Flink and Beam; a port in use is replaced by a free one. Beam's options are part of a stage's cache key, so a
# stopped run reuses its finished stages only if the same ports are free.
PORTS = {"page": 8081, "jobs": 8099, "pool": worker_pool.PORT}
DASHBOARD_PORTS = 10  # size of the port range for dashboards: stages run in parallel, each job with its own
START_SECONDS = 180.0  # seconds until all processes have to listen
JOB_SERVER = "org.apache.beam.runners.flink.FlinkJobServerDriver"
# Flink and Kryo use reflection on JDK classes, which Java 17 forbids by default.
JAVA_OPENS = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("lang", "net", "io", "nio", "util", "time")]
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
# A graph of TFDV or TFMA has hundreds of edges; the default of 512 buffers for each would take gigabytes.
taskmanager.network.sort-shuffle.min-buffers: 16
io.tmp.dirs: '{scratch}'
"""


def beam_args(job_server: str, pool: str = f"{worker_pool.HOST}:{worker_pool.PORT}") -> tuple[str, ...]:
    """Return pipeline options for Beam stages on Flink.

    Args:
        job_server: HOST:PORT of Beam's job server, as reached from the stage.
        pool: HOST:PORT of the worker pool, as reached from a task manager.
    """
    return (
        "--runner=PortableRunner",
        f"--job_endpoint={job_server}",
        "--environment_type=EXTERNAL",
        f"--environment_config={pool}",
    )


@dataclass(frozen=True)
class Flink:
    """Ports of Flink's dashboard, Beam's job server and the worker pool; :meth:`run` starts the processes."""

    page: int
    jobs: int
    pool: int

    @classmethod
    def on_free_ports(cls) -> "Flink":
        """Choose ports that are free now: the default ones where possible.

        Raises:
            ValueError: if there is no Java, or the jars are missing.
        """
        if not shutil.which("java"):
            raise ValueError("Beam on Flink needs Java 11 or 17, and there is no java on PATH.")
        if not list(JARS.glob("*.jar")):
            raise ValueError(f"Beam on Flink needs its jars in {JARS}, and there are none: run `make flink`.")
        return cls(
            **{
                name: default_port if _is_free(default_port) else free_port
                for (name, default_port), free_port in zip(
                    PORTS.items(), find_free_ports(len(PORTS), HOST), strict=True
                )
            }
        )

    @property
    def address(self) -> str:
        """URL of Flink's dashboard and REST API while a job runs."""
        return f"http://{HOST}:{self.page}"

    @property
    def args(self) -> tuple[str, ...]:
        """Pipeline options for every Beam stage."""
        return beam_args(f"{HOST}:{self.jobs}", f"{HOST}:{self.pool}")

    @contextmanager
    def run(self, logs: Path) -> Iterator[None]:
        """Start the job server and the worker pool, and end them on exit; neither outlives this process.

        Args:
            logs: Folder for one log per process and for Flink's temporary files.

        Raises:
            RuntimeError: if a process ends before all listen, or they do not listen in time; naming its log.
        """
        scratch = logs / "flink.tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        values = {
            "first": self.page,
            "last": self.page + DASHBOARD_PORTS - 1,
            "cores": len(os.sched_getaffinity(0)),
            "scratch": scratch,
        }
        (scratch / "config.yaml").write_text(CONFIG.format(host=HOST, **values))
        commands: dict[str, list[object]] = {
            "worker-pool": [sys.executable, "-m", worker_pool.__name__, "--host", HOST, "--port", self.pool],
            # Java expands the wildcard in the class path itself.
            "job-server": [
                "java",
                f"-Xmx{HEAP}",
                "-XX:+UseSerialGC",
                f"-Djava.io.tmpdir={scratch}",
                *JAVA_OPENS,
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
        children: dict[str, subprocess.Popen[str]] = {}
        try:
            for name, command in commands.items():
                children[name] = processes.launch(command, logs / f"flink-{name}.log")
            self._wait(children, logs)
            yield
        finally:
            processes.end_all(children.values())
            shutil.rmtree(scratch, ignore_errors=True)

    def _wait(self, children: dict[str, subprocess.Popen[str]], logs: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not (_listens(self.pool) and _listens(self.jobs)):
            for name, child in children.items():
                if child.poll() is not None:
                    raise RuntimeError(f"Flink did not start: its {name} ended; see {logs / f'flink-{name}.log'}.")
            if time.monotonic() > deadline:
                raise RuntimeError(f"Flink did not start within {START_SECONDS:.0f} s; see {logs}/flink-*.log.")
            time.sleep(0.2)


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
