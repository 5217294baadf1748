"""Beam on Flink: what it needs is asked for by name, and nothing of it outlives a run. What it makes: test_runners.py."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command import ROOT
from support.flink_here import jars, left
from support.manifests import containers, rendered, words

from pipeline.kubeflow.deployment import pod_runtime
from pipeline.kubeflow.task import Task
from pipeline.local.flink import cluster, worker_pool
from pipeline.local.flink.cluster import Flink
from pipeline.local.local_runtime import local_runtime
from pipeline.runtime import IN_PROCESS

pytestmark = pytest.mark.system

PORTS = {"page": 0, "jobs": 0, "pool": 0}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a java of our own that is told to end or to stay, and one jar; the folder of its programs."""
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "one.jar").touch()
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(cluster, "JARS", tmp_path / "jars")
    monkeypatch.setattr(cluster, "START", 3.0)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path / "bin"


def java(folder: Path, does: str) -> None:
    """Puts a program there that is named java."""
    (folder / "java").write_text(f"#!/bin/sh\n{does}\n")
    (folder / "java").chmod(0o755)


def test_what_flink_needs_and_is_not_there_is_said_in_one_sentence(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java(machine, "true")
    (tmp_path / "jars" / "one.jar").unlink()
    with pytest.raises(ValueError, match="needs its jars in .*jars, and there are none: run make flink"):
        local_runtime(tmp_path, runner="flink")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="needs Java 11 or 17, and there is no java on PATH"):
        local_runtime(tmp_path, runner="flink")


def test_without_java_the_command_ends_before_it_begins(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "cli.main",
        "run",
        "fraud",
        "--runner",
        "flink",
        "--home",
        str(tmp_path / "home"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PATH": str(tmp_path)})
    assert done.returncode == 2 and "no java on PATH" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "home").exists()


def test_the_usual_ports_unless_they_are_taken(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java(machine, "true")
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        ports = {**PORTS, "page": taken.getsockname()[1], "jobs": free.getsockname()[1]}
        free.close()
        monkeypatch.setattr(cluster, "PORTS", ports)
        one = Flink.chosen()
    assert one.page != ports["page"] and one.jobs == ports["jobs"]
    assert (
        f"--job_endpoint=127.0.0.1:{one.jobs}" in one.args and f"--environment_config=127.0.0.1:{one.pool}" in one.args
    )
    assert one.address.endswith(f":{one.page}")


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("echo no heap; exit 3", "its job-server ended; .*flink-job-server.log says why"),
        ("exec sleep 600", "did not start within 3 s"),
    ],
)
def test_what_does_not_start_is_named_and_all_of_it_is_ended(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, said: str
) -> None:
    java(machine, does)
    monkeypatch.setattr(cluster, "PORTS", dict(zip(PORTS, cluster._free(3), strict=True)))
    with pytest.raises(RuntimeError, match=said), Flink.chosen().running(tmp_path / "logs"):
        pytest.fail("it ran")
    assert left(tmp_path) == [] and not (tmp_path / "logs" / "flink.tmp").exists()


def test_the_worker_pool_says_that_its_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", worker_pool.__name__, "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "cannot be listened on; --port takes another" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_is_killed_takes_all_of_it_along(machine: Path, tmp_path: Path) -> None:
    java(machine, "exec sleep 600")
    program = f"""
from pathlib import Path
from pipeline.local.flink import cluster
cluster.JARS = Path({str(tmp_path / "jars")!r})
with cluster.Flink.chosen().running(Path({str(tmp_path / "logs")!r})):
    pass
"""
    run = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    until(lambda: len(left(tmp_path / "logs")) == 3)  # both, and itself
    run.kill()
    run.wait()
    until(lambda: not left(tmp_path / "logs"))


def until(true: Callable[[], bool]) -> None:
    """Waits, and raises an error if it takes too long."""
    ends = time.monotonic() + 30
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_the_manifests_agree_with_what_one_machine_starts() -> None:
    """The pool beside each task manager listens where stages tell Flink that it is; each service is asked where it listens."""
    found = {one["name"]: one for _, _, one in containers(rendered("flink"))}
    told = worker_pool.parser().parse_args(words(found["worker-pool"])[3:])
    args = pod_runtime("/showcase", "grpc://metadata:8080", flink="job-server:8099").beam_args
    assert f"--environment_config={told.host}:{told.port}" in args and "--job_endpoint=job-server:8099" in args
    assert pod_runtime("/showcase", "grpc://metadata:8080").beam_args == IN_PROCESS.args
    assert Task("run", "/showcase", "grpc://metadata:8080", flink="job-server:8099").runtime.beam_args == args
    (flink,) = [one for one in rendered("flink") if one["kind"] == "FlinkDeployment"]
    buffers = "taskmanager.network.sort-shuffle.min-buffers"
    assert f"{buffers}: {flink['spec']['flinkConfiguration'][buffers]}\n" in cluster.CONFIG
    assert "--job-port=8099" in found["job-server"]["args"] and "--job-host=job-server" in found["job-server"]["args"]


def test_the_job_server_takes_the_words_of_the_manifest() -> None:
    (server,) = [one for _, _, one in containers(rendered("flink")) if one["name"] == "job-server"]
    command = ["java", "-cp", f"{jars()}/*", cluster.JOB_SERVER, "--no-such-word"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120)
    known = set(re.findall(r"^ (--[\w-]+)", said.stdout + said.stderr, re.MULTILINE))
    assert {word.partition("=")[0] for word in server["args"]} <= known
    assert "--no-such-word" not in known
