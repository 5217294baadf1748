"""The C++ and the Java program: built from the sources beside this file, and asked."""

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

from serving.edge.tensors import Tensor, fitted

HERE = Path(__file__).parent
FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror")
SECONDS = 300


@dataclass(frozen=True)
class Answers:
    """Outputs ``[rows, ...]`` by name, and the median microseconds of a row as the program measured them."""

    outputs: dict[str, np.ndarray]
    latency_us: float


@dataclass(frozen=True)
class Program:
    """A built program: the words that start it."""

    command: tuple[str, ...]

    def signature(self, model: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Inputs and outputs of a model, as the program sees them.

        Raises:
            ValueError: with the program's own words, if it cannot read the model.
        """
        told = json.loads(_run([*self.command, str(model)]))
        inputs, outputs = (
            {name: Tensor(one["dtype"], tuple(one["shape"])) for name, one in told[side].items()}
            for side in ("inputs", "outputs")
        )
        return inputs, outputs

    def answer(self, model: Path, rows: Mapping[str, np.ndarray]) -> Answers:
        """Outputs for inputs ``[rows, ...]``, which go and come as files of raw bytes.

        Raises:
            ValueError: for inputs that do not fit the model, or with the program's own words.
        """
        inputs, outputs = self.signature(model)
        with tempfile.TemporaryDirectory(prefix="edge-") as folder:
            for name, values in fitted(rows, inputs).items():
                values.tofile(Path(folder, f"{name}.bin"))
            Path(folder, "out").mkdir()
            told = json.loads(_run([*self.command, str(model), folder, f"{folder}/out"]))
            found = {
                name: np.fromfile(Path(folder, "out", f"{name}.bin"), one.dtype).reshape(-1, *one.shape)
                for name, one in outputs.items()
            }
        return Answers(found, told["latency_us"])


def cpp(folder: Path) -> Program:
    """The C++ program, built into a folder unless it is there already.

    Raises:
        FileNotFoundError: if there is no compiler, naming what to install.
        ValueError: with the compiler's words, if it refuses.
    """
    sources = sorted((HERE / "cpp").iterdir())
    program = _place(folder, sources) / "edge"
    if not program.exists():
        _compile(("main.cc", "model.cc"), program, ())
    return Program((str(program),))


def java(folder: Path) -> Program:
    """The Java program with its JNI library, built into a folder unless they are there already.

    Raises:
        FileNotFoundError: if there is no compiler or no JDK, naming what to install.
        ValueError: with the compiler's words, if it refuses.
    """
    sources = sorted([*(HERE / "cpp").iterdir(), *(HERE / "java").iterdir()])
    classes, home = _place(folder, sources) / "classes", _jdk()
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


def runtime() -> Path:
    """LiteRT's shared library in the wheel of ``ai-edge-litert``; nothing is imported to find it."""
    package = find_spec("ai_edge_litert")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("The package ai-edge-litert is not installed; make setup installs it.")
    return Path(package.submodule_search_locations[0], "libLiteRt.so")


def _place(folder: Path, sources: Sequence[Path]) -> Path:
    """A folder of its own for these sources and this library, so that a change of either builds anew."""
    library = runtime()
    total = hashlib.sha256(f"{library} {library.stat().st_size} {library.stat().st_mtime_ns} {FLAGS}".encode())
    for source in sources:
        total.update(source.name.encode() + b"\0" + source.read_bytes())
    place = folder.absolute() / total.hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    return place


def _compile(sources: Sequence[str], target: Path, more: Sequence[str]) -> None:
    compiler = shutil.which("g++")
    if not compiler:
        raise FileNotFoundError("There is no C++ compiler: `apt-get install g++`.")
    library = runtime()
    link = [f"-L{library.parent}", f"-l:{library.name}", f"-Wl,-rpath,{library.parent}"]
    made = target.with_name(f".{target.name}-{os.getpid()}")
    _run([compiler, *FLAGS, *more, *(str(HERE / "cpp" / source) for source in sources), "-o", str(made), *link])
    made.rename(target)  # whole or not at all, also where two build at once


def _jdk() -> Path:
    """The JDK's folder, with compiler and JNI headers."""
    compiler = shutil.which("javac")
    home = Path(compiler).resolve().parent.parent if compiler else None
    if home is None or not (home / "include" / "jni.h").exists():
        raise FileNotFoundError("There is no JDK with JNI headers: `apt-get install openjdk-17-jdk-headless`.")
    return home


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error: " in line]
        said = errors[-1] if errors else done.stderr.strip()[-500:] or f"status {done.returncode}"
        raise ValueError(f"{Path(command[0]).name}: {said.removeprefix('error: ')}")
    return done.stdout
