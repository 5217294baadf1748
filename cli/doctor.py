"""What this machine has, and what will and will not work on it; nothing heavy is imported to find out."""

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
PACKAGES = ("tensorflow", "tfx", "keras", "apache-beam", "ml-metadata", "tensorflow-data-validation")
# The newest that a wheel in the lock asks for; ml-metadata and TFDV are pinned to old builds to keep it this low.
GLIBC = (2, 28)
CORES = 2
MEMORY_GIB = 8
DISK_GIB = 10
GIB = 1 << 30
DOCKER_SOCKET = "unix:///var/run/docker.sock"
DOCKER_SECONDS = 0.1
ANSWER_SECONDS = 0.3  # for a metadata server
ELSEWHERE = "The lock file is for Linux on x86_64 with glibc; use a container or such a machine."
TOOLS = {
    "g++": (("g++",), "the C++ and Java edge programs will not be built"),
    "javac": (("javac",), "the Java edge program will not be built"),
    "dvc": (("dvc",), "no .dvc files of data folders will be written; runs have their own data version"),
    "mvn": (("mvn",), "make flink cannot fetch Flink's jars"),
    "npm": (("npm",), "LiteRT.js cannot be installed, and the browser page will not start"),
    "chromium": (("chromium", "chromium-browser", "google-chrome"), "the browser page will not be tested"),
}
COLOURS = {"ok": "green", "warn": "yellow", "missing": "red"}


@dataclass(frozen=True)
class Check:
    """One finding. ``missing`` stops the whole, ``warn`` only what ``advice`` names; ``advice`` is empty for ``ok``."""

    name: str
    state: Literal["ok", "warn", "missing"]
    found: str
    advice: str = ""


def report(home: Path = Path("runs")) -> list[Check]:
    """Every check, in the order of a set-up: Python, platform, packages, resources, then optional programs.

    Takes well under half a second and neither starts a program nor writes.

    Args:
        home: Where runs are kept; it need not exist yet.
    """
    return [
        python(),
        libc(),
        *packages(),
        *resources(home),
        metadata(home),
        java(),
        flink(),
        gpus(),
        docker(),
        *tools(),
        mlflow(),
    ]


def render(checks: Sequence[Check]) -> "Table":
    """A table for rich's console, one row per check."""
    from rich.table import Table
    from rich.text import Text

    table = Table("", "Found", "State", "Advice")
    for check in checks:
        table.add_row(Text(check.name), Text(check.found), Text(check.state, COLOURS[check.state]), Text(check.advice))
    return table


def python() -> Check:
    """TFX 1.21 with Kubeflow exists for Python 3.11 only."""
    good = sys.version_info[:2] == (3, 11)
    return _judge("Python", platform.python_version(), good, "missing", "Install Python 3.11 and run make setup.")


def libc() -> Check:
    """Operating system, processor and C library, which decide whether the locked wheels load."""
    name, number = platform.libc_ver()
    found = f"{platform.system()} {platform.machine()}, {name or 'no glibc'} {number}".rstrip()
    known = (platform.system(), platform.machine(), name) == ("Linux", "x86_64", "glibc")
    good = known and tuple(int(part) for part in number.split(".")[:2]) >= GLIBC
    return _judge("Platform", found, good, "missing", f"glibc {GLIBC[0]}.{GLIBC[1]} at least. {ELSEWHERE}")


def packages() -> Iterator[Check]:
    """Installed against locked versions. The lock's overrides are in them: a newer build may not load here.

    Question: B25
    Answer: TensorFlow is one part among many: Beam moves the data, TFDV, Transform and TFMA check, prepare and judge,
        Keras models, TFX orders the steps, here or on Kubeflow, ML Metadata remembers, TensorFlow Serving and LiteRT
        answer. Beside it stand PyTorch and JAX for research, and scikit-learn and boosted trees, often better on tables.
        Say which part does which job, which need TensorFlow at all, and what could take its place.
    Evidence: tour.evidence.ecosystem.placed
    Proof: tests/tour/evidence/test_ecosystem.py::test_what_needs_tensorflow_is_what_reaches_it
    """
    locked = _locked()
    for name in PACKAGES:
        installed, wanted = _version(name), locked.get(name)
        if installed is None:
            yield Check(name, "missing", "not installed", "Run make setup to install the locked packages.")
        elif wanted is None:
            yield Check(name, "warn", installed, f"{LOCK.name} does not name it, so nothing says whether it fits.")
        else:
            yield _judge(name, installed, installed == wanted, "warn", f"The lock has {wanted}: run make setup.")
    kfp = _version("kfp")
    yield _judge("kfp", kfp or "not installed", kfp, "warn", "compile, rehearse and submit will not work.")


def resources(home: Path) -> Iterator[Check]:
    """Cores and memory that this process may use, and free disk where the runs go."""
    cores, memory, disk = _cores(), _memory() / GIB, shutil.disk_usage(_existing(home)).free / GIB
    yield _judge("Cores", str(cores), cores >= CORES, "warn", "Training in several processes will be slow.")
    advice = f"Less than {MEMORY_GIB} GiB: run one pipeline at a time and fewer rows."
    yield _judge("Memory", f"{memory:.1f} GiB", memory >= MEMORY_GIB, "warn", advice)
    advice = f"Less than {DISK_GIB} GiB: free some, or choose another --home."
    yield _judge("Disk", f"{disk:.1f} GiB free for {home}", disk >= DISK_GIB, "warn", advice)


def metadata(home: Path) -> Check:
    """Check that the metadata store of the home answers; without it no command finds a run."""
    address = MetadataAddress.of(home)
    try:
        return Check("Metadata store", "ok", f"{address}{'' if address.exists(ANSWER_SECONDS) else ', not there yet'}")
    except (MetadataUnavailableError, MetadataAddressError) as error:
        return Check("Metadata store", "missing", str(address), str(error))


def java() -> Check:
    """Java for Flink, its version read from the file beside it because starting it takes too long."""
    path = shutil.which("java")
    release = Path(path).resolve().parent.parent / "release" if path else None
    found = path or "not on PATH"
    if release and release.exists():
        lines = [line for line in release.read_text().splitlines() if line.startswith("JAVA_VERSION=")]
        found = lines[0].partition("=")[2].strip('"') if lines else found
    return _judge("Java", found, path, "warn", "Beam on Flink will not work; it needs Java 11 or 17.")


def flink() -> Check:
    """The jars of Flink and of Beam's runner on it, which come from Maven Central."""
    from pipeline.local.flink.cluster import JARS

    jars = len(list(JARS.glob("*.jar")))
    advice = "`--runner flink` will not work; `make flink` has Maven fetch them from Maven Central."
    return _judge("Flink", f"{jars} jars" if jars else f"no jars in {JARS}", jars, "warn", advice)


def gpus() -> Check:
    """NVIDIA devices, and whether the driver's own program agrees."""
    devices = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    driver = shutil.which("nvidia-smi")
    if bool(devices) != bool(driver):
        found = ", ".join(devices) or "nvidia-smi without a device"
        return Check("GPUs", "warn", found, "Device and driver do not agree; TensorFlow will use the processor.")
    return _judge("GPUs", ", ".join(devices) or "none", devices, "warn", "Training runs on the processor.")


def docker() -> Check:
    """Whether something answers where Docker's engine listens; a client without an engine is of no use."""
    address = os.environ.get("DOCKER_HOST", DOCKER_SOCKET)
    advice = "The TensorFlow Serving container and the image build will not work."
    answers = _listens(address)
    return _judge("Docker engine", address if answers else f"nothing answers at {address}", answers, "warn", advice)


def tools() -> Iterator[Check]:
    """Programs that only some parts need."""
    for name, (programs, without) in TOOLS.items():
        path = next(filter(None, map(shutil.which, programs)), None)
        yield _judge(name, path or "not on PATH", path, "warn", f"Without it {without}.")


def mlflow() -> Check:
    """What records the runs. The small package has all of MLflow but its pages."""
    full, small = _version("mlflow"), _version("mlflow-skinny")
    found = f"mlflow {full}" if full else f"mlflow-skinny {small}, without pages" if small else "not installed"
    advice = "Runs are not recorded in MLflow; `showcase runs` compares them all the same."
    return _judge("MLflow", found, full or small, "warn", advice)


def _judge(name: str, found: str, good: object, otherwise: Literal["warn", "missing"], advice: str) -> Check:
    return Check(name, "ok", found) if good else Check(name, otherwise, found, advice)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _locked() -> dict[str, str]:
    if not LOCK.exists():
        return {}
    return {package["name"]: package["version"] for package in tomllib.loads(LOCK.read_text())["package"]}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> int:
    """Bytes of memory: the machine's, or less where a container has a limit."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return machine if text == "max" else min(machine, int(text))


def _existing(path: Path) -> Path:
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def _listens(address: str) -> bool:
    parts = urlsplit(address)
    family = socket.AF_UNIX if parts.scheme == "unix" else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(DOCKER_SECONDS)
        try:
            connection.connect(parts.path if parts.scheme == "unix" else (parts.hostname, parts.port or 2375))
        except (OSError, TypeError, ValueError):
            return False
    return True
