"""Checks of this machine: what it has and what will not work on it. They import nothing heavy."""

import os
import platform
import shutil
import socket
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pipeline.checkout import ROOT
from pipeline.metadata.store_address import MetadataAddress, MetadataAddressError, MetadataUnavailableError

if TYPE_CHECKING:
    from rich.table import Table

LOCK = ROOT / "uv.lock"
CLUSTER_PROGRAMS = ROOT / "kubernetes" / "local-cluster" / "programs.toml"
PACKAGES = ("tensorflow", "tfx", "keras", "apache-beam", "ml-metadata", "tensorflow-data-validation")
# The highest version that a wheel in the lock file needs; ml-metadata and TFDV are pinned to old builds for this.
GLIBC = (2, 28)
CORES = 2
MEMORY_GIB = 8
DISK_GIB = 10
GIB = 1 << 30
DOCKER_SOCKET = "unix:///var/run/docker.sock"
DOCKER_SECONDS = 0.1
ANSWER_SECONDS = 0.3  # timeout of the metadata server's answer
ELSEWHERE = "The lock file is for Linux on x86_64 with glibc: use such a machine or a container."
TOOLS = {
    "g++": (("g++",), "the C++ and Java edge programs will not be built"),
    "javac": (("javac",), "the Java edge program will not be built"),
    "dvc": (("dvc",), ".dvc files of data folders cannot be written; runs have their own data version all the same"),
    "mvn": (("mvn",), "make flink cannot fetch Flink's jars"),
    "npm": (("npm",), "LiteRT.js cannot be installed, so the browser page will not start"),
    "chromium": (("chromium", "chromium-browser", "google-chrome"), "the browser page will not be tested"),
}
COLOURS = {"ok": "green", "warn": "yellow", "missing": "red"}


@dataclass(frozen=True)
class Check:
    """One result: ``missing`` prevents every run, ``warn`` only what ``advice`` names; ``ok`` has no advice."""

    name: str
    state: Literal["ok", "warn", "missing"]
    found: str
    advice: str = ""


def run_checks(home: Path = Path("runs")) -> list[Check]:
    """Run every check, in the order of a set-up: Python, platform, packages, resources, then optional programs.

    Takes well under half a second, starts no program and writes nothing.

    Args:
        home: Folder of all state; it need not exist yet.
    """
    return [
        check_python(),
        check_platform(),
        *check_packages(),
        *check_resources(home),
        check_metadata_store(home),
        check_java(),
        check_flink(),
        check_gpus(),
        check_docker(),
        *check_tools(),
        check_cluster(),
        check_mlflow(),
    ]


def render(checks: Sequence[Check]) -> "Table":
    """Return a table for rich's console with one row per check."""
    from rich.table import Table
    from rich.text import Text

    table = Table("", "Found", "State", "Advice")
    for check in checks:
        table.add_row(Text(check.name), Text(check.found), Text(check.state, COLOURS[check.state]), Text(check.advice))
    return table


def check_python() -> Check:
    """Check the version of Python: TFX 1.21 with Kubeflow exists for Python 3.11 only."""
    passed = sys.version_info[:2] == (3, 11)
    return _judge("Python", platform.python_version(), passed, "missing", "Install Python 3.11 and run make setup.")


def check_platform() -> Check:
    """Check operating system, processor and C library, which decide whether the locked wheels load."""
    name, number = platform.libc_ver()
    finding = f"{platform.system()} {platform.machine()}, {name or 'no glibc'} {number}".rstrip()
    supported = (platform.system(), platform.machine(), name) == ("Linux", "x86_64", "glibc")
    passed = supported and tuple(int(part) for part in number.split(".")[:2]) >= GLIBC
    return _judge(
        "Platform", finding, passed, "missing", f"glibc {GLIBC[0]}.{GLIBC[1]} or newer is needed. {ELSEWHERE}"
    )


def check_packages() -> Iterator[Check]:
    """Compare installed with locked versions, overrides included: a newer build may not load on this machine.

    Question: B25
    Answer: TensorFlow is one library in a larger stack. Beam processes the data; TFDV validates it, Transform prepares
        it, TFMA evaluates; Keras defines the model; TFX orchestrates, locally or on Kubeflow; ML Metadata records
        lineage; TensorFlow Serving and LiteRT serve. PyTorch and JAX lead in research, and gradient-boosted trees are
        often better on tables. So say for each part what it does, whether it needs TensorFlow, and what could replace
        it. Here the imports show which parts do.
    Evidence: tour.evidence.ecosystem.library_dependencies
    Proof: tests/tour/evidence/test_ecosystem.py::test_what_needs_tensorflow_is_what_reaches_it
    """
    locked = _read_locked_versions()
    for name in PACKAGES:
        installed, expected = _read_version(name), locked.get(name)
        if installed is None:
            yield Check(name, "missing", "not installed", "Run make setup to install the locked packages.")
        elif expected is None:
            yield Check(name, "warn", installed, f"{LOCK.name} does not contain it, so its version cannot be checked.")
        else:
            yield _judge(name, installed, installed == expected, "warn", f"The lock has {expected}: run make setup.")
    kfp = _read_version("kfp")
    yield _judge("kfp", kfp or "not installed", kfp, "warn", "compile, rehearse and submit will not work.")


def check_resources(home: Path) -> Iterator[Check]:
    """Check the cores and memory that this process may use, and the free disk space of the home."""
    cores, memory, disk = (
        _count_cores(),
        _read_memory_limit() / GIB,
        shutil.disk_usage(_find_existing_parent(home)).free / GIB,
    )
    yield _judge("Cores", str(cores), cores >= CORES, "warn", "Training in several processes will be slow.")
    advice = f"Less than {MEMORY_GIB} GiB: run one pipeline at a time, on fewer rows."
    yield _judge("Memory", f"{memory:.1f} GiB", memory >= MEMORY_GIB, "warn", advice)
    advice = f"Less than {DISK_GIB} GiB: free some space or choose another --home."
    yield _judge("Disk", f"{disk:.1f} GiB free for {home}", disk >= DISK_GIB, "warn", advice)


def check_metadata_store(home: Path) -> Check:
    """Check that the metadata store of the home answers; without it no command finds a run."""
    address = MetadataAddress.of(home)
    try:
        return Check("Metadata store", "ok", f"{address}{'' if address.exists(ANSWER_SECONDS) else ', not there yet'}")
    except (MetadataUnavailableError, MetadataAddressError) as error:
        return Check("Metadata store", "missing", str(address), str(error))


def check_java() -> Check:
    """Check Java, which Flink needs; its version is read from its release file, since starting it takes too long."""
    path = shutil.which("java")
    release = Path(path).resolve().parent.parent / "release" if path else None
    finding = path or "not on PATH"
    if release and release.exists():
        lines = [line for line in release.read_text().splitlines() if line.startswith("JAVA_VERSION=")]
        finding = lines[0].partition("=")[2].strip('"') if lines else finding
    return _judge("Java", finding, path, "warn", "Beam on Flink will not work; install Java 11 or 17.")


def check_flink() -> Check:
    """Check the jars of Flink and of Beam's Flink runner, which come from Maven Central."""
    from pipeline.local.flink.flink_cluster import JARS

    jars = len(list(JARS.glob("*.jar")))
    advice = "`--runner flink` will not work; fetch the jars from Maven Central with `make flink`."
    return _judge("Flink", f"{jars} jars" if jars else f"no jars in {JARS}", jars, "warn", advice)


def check_gpus() -> Check:
    """Check for NVIDIA devices, and that the driver's program (nvidia-smi) is installed if there are any."""
    devices = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    driver = shutil.which("nvidia-smi")
    if bool(devices) != bool(driver):
        finding = ", ".join(devices) or "nvidia-smi without a device"
        return Check("GPUs", "warn", finding, "Only one of device and driver is there; TensorFlow will use the CPU.")
    return _judge("GPUs", ", ".join(devices) or "none", devices, "warn", "Training runs on the CPU.")


def check_docker() -> Check:
    """Check that Docker's engine accepts connections; a client without an engine is useless."""
    address = os.environ.get("DOCKER_HOST", DOCKER_SOCKET)
    advice = "The TensorFlow Serving container and the image build will not work."
    accepts = _accepts_connections(address)
    return _judge("Docker engine", address if accepts else f"nothing listens at {address}", accepts, "warn", advice)


def check_tools() -> Iterator[Check]:
    """Check the programs that only some parts need."""
    for name, (programs, consequence) in TOOLS.items():
        path = next(filter(None, map(shutil.which, programs)), None)
        yield _judge(name, path or "not on PATH", path, "warn", f"Without it {consequence}.")


def check_cluster() -> Check:
    """Check what `make cluster` needs to start a Kubernetes node: root, its programs, and those that are built."""
    needed = tomllib.loads(CLUSTER_PROGRAMS.read_text())
    missing = [] if os.geteuid() == 0 else ["root"]
    missing += [Path(program).name for program in needed["system"] if not shutil.which(program)]
    missing += [name for name in needed["built"] if not (ROOT / ".tools" / "bin" / name).exists()]
    finding = f"no {', '.join(missing)}" if missing else "every program is there"
    advice = "`make cluster` will not work; `make cluster-programs` builds, `apt-get install` has the rest."
    return _judge("Local cluster", finding, not missing, "warn", advice)


def check_mlflow() -> Check:
    """Check MLflow, which records the runs. The package mlflow-skinny has everything but the web pages."""
    full, small = _read_version("mlflow"), _read_version("mlflow-skinny")
    finding = f"mlflow {full}" if full else f"mlflow-skinny {small}, without pages" if small else "not installed"
    advice = "Runs are not recorded in MLflow; `showcase runs` still compares them."
    return _judge("MLflow", finding, full or small, "warn", advice)


def _judge(name: str, finding: str, passed: object, failure: Literal["warn", "missing"], advice: str) -> Check:
    return Check(name, "ok", finding) if passed else Check(name, failure, finding, advice)


def _read_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _read_locked_versions() -> dict[str, str]:
    if not LOCK.exists():
        return {}
    return {package["name"]: package["version"] for package in tomllib.loads(LOCK.read_text())["package"]}


def _count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read_memory_limit() -> int:
    """Bytes of memory: the machine's, or the container's limit if that is lower."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return machine if text == "max" else min(machine, int(text))


def _find_existing_parent(path: Path) -> Path:
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def _accepts_connections(address: str) -> bool:
    parts = urlsplit(address)
    family = socket.AF_UNIX if parts.scheme == "unix" else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(DOCKER_SECONDS)
        try:
            connection.connect(parts.path if parts.scheme == "unix" else (parts.hostname, parts.port or 2375))
        except (OSError, TypeError, ValueError):
            return False
    return True
