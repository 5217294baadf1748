"""Builds the C++ and Java programs from the sources in this folder and runs them."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from serving.edge.tensors import Tensor, fit_tensors

HERE = Path(__file__).parent
FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror")
SECONDS = 300


@dataclass(frozen=True)
class ProgramOutputs:
    """Outputs ``[rows, ...]`` by name, and the median microseconds of a row as the program measured them."""

    outputs: dict[str, np.ndarray]
    latency_us: float


@dataclass(frozen=True)
class Program:
    """A built program, with the command that starts it."""

    command: tuple[str, ...]

    def signature(self, model: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the inputs and outputs of a model as the program reads them.

        Raises:
            ValueError: with the program's error message, if it cannot read the model.
        """
        description = json.loads(_run([*self.command, str(model)]))
        inputs, outputs = (
            {name: Tensor(spec["dtype"], tuple(spec["shape"])) for name, spec in description[side].items()}
            for side in ("inputs", "outputs")
        )
        return inputs, outputs

    def answer(self, model: Path, rows: Mapping[str, np.ndarray]) -> ProgramOutputs:
        """Run the model on inputs ``[rows, ...]``; inputs and outputs are passed as files of raw bytes.

        Raises:
            ValueError: if the inputs do not fit the model, or with the program's error message.
        """
        inputs, outputs = self.signature(model)
        with tempfile.TemporaryDirectory(prefix="edge-") as folder:
            for name, values in fit_tensors(rows, inputs).items():
                values.tofile(Path(folder, f"{name}.bin"))
            Path(folder, "out").mkdir()
            report = json.loads(_run([*self.command, str(model), folder, f"{folder}/out"]))
            arrays = {
                name: np.fromfile(Path(folder, "out", f"{name}.bin"), tensor.dtype).reshape(-1, *tensor.shape)
                for name, tensor in outputs.items()
            }
        return ProgramOutputs(arrays, report["latency_us"])


def build_cpp(folder: Path) -> Program:
    """Build the C++ program in a folder unless it is built already.

    Raises:
        FileNotFoundError: if there is no compiler; the message names the package to install.
        ValueError: with the compiler's error message, if compilation fails.
    """
    sources = sorted((HERE / "cpp").iterdir())
    program = _build_folder(folder, sources) / "edge"
    if not program.exists():
        _compile(("main.cc", "model.cc"), program, ())
    return Program((str(program),))


def build_java(folder: Path) -> Program:
    """Build the Java program and its JNI library in a folder unless they are built already.

    Raises:
        FileNotFoundError: if there is no compiler or no JDK; the message names the package to install.
        ValueError: with the compiler's error message, if compilation fails.
    """
    sources = sorted([*(HERE / "cpp").iterdir(), *(HERE / "java").iterdir()])
    classes, home = _build_folder(folder, sources) / "classes", _jdk()
    library = classes / "libedge.so"
    if not library.exists():
        _run(
            [
                str(home / "bin" / "javac"),
                "-Xlint:all",
                "-Werror",
                "-d",
                str(classes),
                *map(str, sorted((HERE / "java").glob("*.java"))),
            ]
        )
        headers = [f"-I{home / 'include'}", f"-I{home / 'include' / 'linux'}", f"-I{HERE / 'cpp'}"]
        _compile(("../java/jni.cc", "model.cc"), library, ("-shared", "-fPIC", *headers))
    return Program((str(home / "bin" / "java"), f"-Djava.library.path={classes}", "-cp", str(classes), "Edge"))


def find_litert_library() -> Path:
    """Return the path of LiteRT's shared library in the ``ai-edge-litert`` package, without importing the package."""
    package = find_spec("ai_edge_litert")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("The package ai-edge-litert is not installed; run `make setup`.")
    return Path(package.submodule_search_locations[0], "libLiteRt.so")


def _build_folder(folder: Path, sources: Sequence[Path]) -> Path:
    """Create the folder for this version of sources and library, named by their hash: a change of either rebuilds."""
    library = find_litert_library()
    digest = hashlib.sha256(f"{library} {library.stat().st_size} {library.stat().st_mtime_ns} {FLAGS}".encode())
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    build_folder = folder.absolute() / digest.hexdigest()[:16]
    build_folder.mkdir(parents=True, exist_ok=True)
    return build_folder


def _compile(sources: Sequence[str], target: Path, extra_flags: Sequence[str]) -> None:
    compiler = shutil.which("g++")
    if not compiler:
        raise FileNotFoundError("There is no C++ compiler: `apt-get install g++`.")
    library = find_litert_library()
    link = [f"-L{library.parent}", f"-l:{library.name}", f"-Wl,-rpath,{library.parent}"]
    temporary = target.with_name(f".{target.name}-{os.getpid()}")
    _run(
        [
            compiler,
            *FLAGS,
            *extra_flags,
            *(str(HERE / "cpp" / source) for source in sources),
            "-o",
            str(temporary),
            *link,
        ]
    )
    temporary.rename(target)  # atomic, also with two concurrent builds


def _jdk() -> Path:
    """Return the folder of the JDK with compiler and JNI headers."""
    compiler = shutil.which("javac")
    home = Path(compiler).resolve().parent.parent if compiler else None
    if home is None or not (home / "include" / "jni.h").exists():
        raise FileNotFoundError("There is no JDK with JNI headers: `apt-get install openjdk-17-jdk-headless`.")
    return home


def _run(command: Sequence[str]) -> str:
    process = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    if process.returncode:
        errors = [line for line in process.stderr.splitlines() if "error: " in line]
        message = errors[-1] if errors else process.stderr.strip()[-500:] or f"status {process.returncode}"
        raise ValueError(f"{Path(command[0]).name}: {message.removeprefix('error: ')}")
    return process.stdout
