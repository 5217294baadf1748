"""Every check of the doctor, passing and failing."""

import json
import socket
import subprocess
import sys
import tomllib
from collections import namedtuple
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from cli import doctor

REPOSITORY = Path(__file__).parents[2]


def find_check(checks, name: str) -> doctor.Check:
    return next(check for check in checks if check.name == name)


@pytest.mark.system
def test_doctor_imports_nothing_heavy():
    program = """
import json, sys
from cli import doctor
checks = doctor.run_checks()
heavy = {"tensorflow", "tfx", "keras", "apache_beam"} & set(sys.modules)
print(json.dumps([len(checks), sorted(heavy)]))
"""
    result = subprocess.run([sys.executable, "-c", program], check=True, cwd=REPOSITORY, capture_output=True, text=True)
    count, heavy = json.loads(result.stdout)
    assert heavy == []
    assert count > 10


def test_every_check_that_is_not_ok_has_advice(tmp_path):
    for check in doctor.run_checks(tmp_path):
        assert check.found
        assert bool(check.advice) == (check.state != "ok")


@pytest.mark.parametrize(("number", "state"), [((3, 11, 7), "ok"), ((3, 12, 1), "missing"), ((3, 10, 0), "missing")])
def test_python_3_11_is_required(monkeypatch, number, state):
    monkeypatch.setattr(sys, "version_info", number)
    assert doctor.check_python().state == state


@pytest.mark.parametrize(
    ("system", "machine", "library", "state"),
    [
        ("Linux", "x86_64", ("glibc", "2.36"), "ok"),
        ("Linux", "x86_64", ("glibc", "2.28"), "ok"),
        ("Linux", "x86_64", ("glibc", "2.17"), "missing"),
        ("Linux", "x86_64", ("", ""), "missing"),
        ("Linux", "aarch64", ("glibc", "2.36"), "missing"),
        ("Darwin", "arm64", ("", ""), "missing"),
    ],
)
def test_linux_x86_64_with_a_recent_glibc_is_required(monkeypatch, system, machine, library, state):
    monkeypatch.setattr(doctor.platform, "system", lambda: system)
    monkeypatch.setattr(doctor.platform, "machine", lambda: machine)
    monkeypatch.setattr(doctor.platform, "libc_ver", lambda: library)
    assert doctor.check_platform().state == state


@pytest.mark.parametrize(
    ("installed", "state", "advice"),
    [("1.17.1", "ok", ""), ("1.21.0", "warn", "The lock has 1.17.1"), (None, "missing", "make setup")],
)
def test_packages_are_compared_with_the_lock(monkeypatch, installed, state, advice):
    monkeypatch.setattr(doctor, "_read_version", lambda _: installed)
    check = find_check(doctor.check_packages(), "ml-metadata")
    assert (check.state, advice in check.advice) == (state, True)


def test_missing_lock_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_read_version", lambda _: "1.0")
    monkeypatch.setattr(doctor, "LOCK", tmp_path / "uv.lock")
    assert find_check(doctor.check_packages(), "tfx").state == "warn"


@pytest.mark.parametrize(("installed", "state"), [("2.16.1", "ok"), (None, "warn")])
def test_missing_kubeflow_is_a_warning(monkeypatch, installed, state):
    monkeypatch.setattr(doctor, "_read_version", lambda _: installed)
    assert find_check(doctor.check_packages(), "kfp").state == state


@pytest.mark.parametrize(("gib", "cores", "state"), [(64, 8, "ok"), (1, 1, "warn")])
def test_few_cores_little_memory_and_disk_are_warnings(monkeypatch, tmp_path, gib, cores, state):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(doctor, "_read_memory_limit", lambda: gib * doctor.GIB)
    monkeypatch.setattr(doctor, "_count_cores", lambda: cores)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage(gib * doctor.GIB))
    assert [check.state for check in doctor.check_resources(tmp_path)] == [state] * 3


def test_disk_space_is_measured_at_the_home(tmp_path):
    check = find_check(doctor.check_resources(tmp_path / "not" / "yet"), "Disk")
    assert str(tmp_path / "not" / "yet") in check.found
    assert not (tmp_path / "not").exists()


def program(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_java_version_is_read_from_its_release_file(monkeypatch, tmp_path):
    java = program(tmp_path / "jdk" / "bin", "java")
    (tmp_path / "jdk" / "release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="17.0.15"\n')
    monkeypatch.setenv("PATH", str(java.parent))
    assert doctor.check_java() == doctor.Check("Java", "ok", "17.0.15")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.check_java().state == "warn"


def test_flink_without_jars_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr("pipeline.local.flink.flink_cluster.JARS", tmp_path)
    check = doctor.check_flink()
    assert check.state == "warn" and str(tmp_path) in check.found and "make flink" in check.advice
    (tmp_path / "one.jar").touch()
    assert doctor.check_flink() == doctor.Check("Flink", "ok", "1 jars")


@pytest.mark.parametrize(
    ("devices", "driver", "state", "text"),
    [
        (["nvidia1", "nvidia0"], "nvidia-smi", "ok", "nvidia0, nvidia1"),
        ([], None, "warn", "none"),
        (["nvidia0"], None, "warn", "nvidia0"),
        ([], "nvidia-smi", "warn", "without a device"),
    ],
)
def test_gpu_check_needs_device_and_driver(monkeypatch, devices, driver, state, text):
    monkeypatch.setattr(Path, "glob", lambda *_: iter(Path("/dev", name) for name in devices))
    monkeypatch.setattr(doctor.shutil, "which", lambda _: driver)
    check = doctor.check_gpus()
    assert check.state == state
    assert text in check.found


@pytest.mark.system
def test_docker_without_an_engine_is_a_warning(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    assert doctor.check_docker().state == "warn"
    with socket.create_server(("127.0.0.1", 0)) as engine:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{engine.getsockname()[1]}")
        assert doctor.check_docker().state == "ok"


@pytest.mark.parametrize(("present", "state"), [(True, "ok"), (False, "warn")])
def test_missing_optional_programs_are_warnings(monkeypatch, tmp_path, present, state):
    if present:
        for name in ("g++", "javac", "dvc", "mvn", "npm", "google-chrome"):
            program(tmp_path, name)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {check.name: check.state for check in doctor.check_tools()} == dict.fromkeys(
        ("g++", "javac", "dvc", "mvn", "npm", "chromium"), state
    )


def test_table_shows_every_check_without_interpreting_markup():
    checks = [doctor.Check("a", "ok", "[1.0]"), doctor.Check("b", "missing", "none", "Do [this].")]
    console = Console(width=100, record=True, file=StringIO())
    console.print(doctor.render(checks))
    text = console.export_text()
    assert all(word in text for word in ("[1.0]", "missing", "Do [this]."))


@pytest.mark.parametrize(
    ("installed", "state", "value"),
    [
        ({"mlflow": "3.17.2", "mlflow-skinny": "3.17.2"}, "ok", "mlflow 3.17.2"),
        ({"mlflow-skinny": "3.17.2"}, "ok", "mlflow-skinny 3.17.2, without pages"),
        ({}, "warn", "not installed"),
    ],
)
def test_missing_mlflow_is_a_warning(monkeypatch, installed, state, value):
    monkeypatch.setattr(doctor, "_read_version", installed.get)
    check = doctor.check_mlflow()
    assert (check.state, check.found) == (state, value)


@pytest.mark.parametrize(
    ("user", "programs", "state", "words"),
    [
        (0, True, "ok", ()),
        (1000, True, "warn", ("root",)),
        (0, False, "warn", ("containerd", "ptp", "kubelet", "coredns")),
    ],
)
def test_cluster_of_one_node_needs_root_and_its_programs(monkeypatch, tmp_path, user, programs, state, words):
    text = doctor.CLUSTER_PROGRAMS.read_text()
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setattr(doctor.os, "geteuid", lambda: user)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: name if programs else None)
    for name in tomllib.loads(text)["built"] if programs else ():
        program(tmp_path / ".tools" / "bin", name)
    check = doctor.check_cluster()
    assert check.state == state and all(word in check.found for word in words)
