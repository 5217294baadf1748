"""Beam on Flink: missing requirements are errors, and no process outlives a run; test_runners.py checks the results."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command import ROOT, showcase
from support.flink_here import find_leftover_processes, require_jars
from support.manifests import command_line, list_containers, render_manifests

from pipeline.kubeflow.deployment import pod_runtime
from pipeline.kubeflow.task import KubeflowTask
from pipeline.local.flink import flink_cluster, worker_pool
from pipeline.local.flink.flink_cluster import Flink
from pipeline.local.local_runtime import local_runtime
from pipeline.runtime import IN_PROCESS

pytestmark = pytest.mark.system

PORTS = {"page": 0, "jobs": 0, "pool": 0}


@pytest.fixture
def fake_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of programs of a machine with one jar, for a fake ``java`` whose script the test writes."""
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "one.jar").touch()
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(flink_cluster, "JARS", tmp_path / "jars")
    monkeypatch.setattr(flink_cluster, "START_SECONDS", 3.0)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path / "bin"


def write_java(folder: Path, script: str) -> None:
    """Write a fake ``java`` program."""
    (folder / "java").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "java").chmod(0o755)


def test_missing_jars_or_java_is_an_error(fake_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_java(fake_machine, "true")
    (tmp_path / "jars" / "one.jar").unlink()
    with pytest.raises(ValueError, match="needs its jars in .*jars, and there are none: run `make flink`"):
        local_runtime(tmp_path, runner="flink")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="needs Java 11 or 17, and there is no java on PATH"):
        local_runtime(tmp_path, runner="flink")


def test_run_without_java_exits_with_2_and_creates_no_home(tmp_path: Path) -> None:
    words = ("run", "fraud", "--runner", "flink", "--home", tmp_path / "home")
    process = showcase(*words, env={**os.environ, "PATH": str(tmp_path)})
    assert process.returncode == 2 and "no java on PATH" in process.stderr and "Traceback" not in process.stderr
    assert not (tmp_path / "home").exists()


def test_default_ports_are_used_unless_taken(fake_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_java(fake_machine, "true")
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        ports = {**PORTS, "page": taken.getsockname()[1], "jobs": free.getsockname()[1]}
        free.close()
        monkeypatch.setattr(flink_cluster, "PORTS", ports)
        flink = Flink.on_free_ports()
    assert flink.page != ports["page"] and flink.jobs == ports["jobs"]
    assert (
        f"--job_endpoint=127.0.0.1:{flink.jobs}" in flink.args
        and f"--environment_config=127.0.0.1:{flink.pool}" in flink.args
    )
    assert flink.address.endswith(f":{flink.page}")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no heap; exit 3", "its job-server ended; see .*flink-job-server.log"),
        ("exec sleep 600", "did not start within 3 s"),
    ],
)
def test_failed_start_names_the_log_and_ends_all_processes(
    fake_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    write_java(fake_machine, script)
    monkeypatch.setattr(flink_cluster, "PORTS", dict(zip(PORTS, flink_cluster.find_free_ports(3), strict=True)))
    with pytest.raises(RuntimeError, match=message), Flink.on_free_ports().run(tmp_path / "logs"):
        pytest.fail("it ran")
    assert find_leftover_processes(tmp_path) == [] and not (tmp_path / "logs" / "flink.tmp").exists()


def test_worker_pool_with_a_taken_port_exits_with_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", worker_pool.__name__, "--port", str(taken.getsockname()[1])]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (
        process.returncode == 2 and "cannot listen on" in process.stderr and "choose another --port" in process.stderr
    )
    assert "Traceback" not in process.stderr


def test_killed_run_ends_all_flink_processes(fake_machine: Path, tmp_path: Path) -> None:
    write_java(fake_machine, "exec sleep 600")
    program = f"""
from pathlib import Path
from pipeline.local.flink import flink_cluster
flink_cluster.JARS = Path({str(tmp_path / "jars")!r})
with flink_cluster.Flink.on_free_ports().run(Path({str(tmp_path / "logs")!r})):
    pass
"""
    run = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    wait_until(lambda: len(find_leftover_processes(tmp_path / "logs")) == 3)  # both processes and the run itself
    run.kill()
    run.wait()
    wait_until(lambda: not find_leftover_processes(tmp_path / "logs"))


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; fail after 30 seconds."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_manifests_use_the_addresses_of_the_pod_runtime() -> None:
    """The worker pool and the job server listen where the stages' options expect them."""
    by_name = {container["name"]: container for _, _, container in list_containers(render_manifests("flink"))}
    options = worker_pool.build_parser().parse_args(command_line(by_name["worker-pool"])[3:])
    args = pod_runtime("/showcase", "grpc://metadata:8080", flink="job-server:8099").beam_args
    assert f"--environment_config={options.host}:{options.port}" in args and "--job_endpoint=job-server:8099" in args
    assert pod_runtime("/showcase", "grpc://metadata:8080").beam_args == IN_PROCESS.args
    assert KubeflowTask("run", "/showcase", "grpc://metadata:8080", flink="job-server:8099").runtime.beam_args == args
    (flink,) = [container for container in render_manifests("flink") if container["kind"] == "FlinkDeployment"]
    buffers = "taskmanager.network.sort-shuffle.min-buffers"
    assert f"{buffers}: {flink['spec']['flinkConfiguration'][buffers]}\n" in flink_cluster.CONFIG
    assert (
        "--job-port=8099" in by_name["job-server"]["args"] and "--job-host=job-server" in by_name["job-server"]["args"]
    )


def test_job_server_accepts_the_options_of_the_manifest() -> None:
    (server,) = [
        container for _, _, container in list_containers(render_manifests("flink")) if container["name"] == "job-server"
    ]
    command = ["java", "-cp", f"{require_jars()}/*", flink_cluster.JOB_SERVER, "--no-such-word"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120)
    options = set(re.findall(r"^ (--[\w-]+)", process.stdout + process.stderr, re.MULTILINE))
    assert {argument.partition("=")[0] for argument in server["args"]} <= options
    assert "--no-such-word" not in options
