"""Scratch copies that incidents break: they lie in the home and are deleted at the end of the incident."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from models.catalog import CASES
from models.use_case import UseCase
from pipeline.home import Home
from pipeline.local import processes
from pipeline.metadata import store
from pipeline.metadata.run_copy import copy_run
from pipeline.online import rollouts
from pipeline.run import Run
from tour.demo import servers
from tour.incidents.incident import LiveSystem, MissingPrerequisiteError


def choose_cheapest_case(home: Path) -> UseCase:
    """Return the pushed use case that is cheapest to run: preferably one whose rows have no history.

    Raises:
        MissingPrerequisiteError: if no version is pushed.
    """
    pushed = [case for case in CASES.values() if rollouts.served_version(home, case.name)]
    if not pushed:
        raise MissingPrerequisiteError(f"No model is pushed under {home}; run `showcase demo --home {home}` first.")
    return min(pushed, key=lambda case: bool(case.time))


def find_demo_case() -> UseCase:
    """Return the use case whose rows and drift can be generated."""
    return next(case for case in CASES.values() if case.has("demo"))


def find_last_pushed_run(home: Path, case: UseCase) -> Run:
    """Return the last run that pushed a model.

    Raises:
        MissingPrerequisiteError: if there is none.
    """
    runs = Home(home).pushed_runs(case.name)
    if not runs:
        raise MissingPrerequisiteError(
            f"No run of {case.name} under {home} has pushed a model; run `showcase run {case.name}` first."
        )
    return runs[-1]


@contextmanager
def make_folder(live: LiveSystem) -> Iterator[Path]:
    """Make an empty folder that is deleted at the end of the block, also if the incident is interrupted."""
    live.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".break-", dir=live.home, ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def copy_served_version(live: LiveSystem, case: UseCase) -> Iterator[Path]:
    """Make a home with the use case's served version and last pushed run, whose stages are cached in it."""
    version = rollouts.served_version(live.home, case.name)
    if version is None:
        raise MissingPrerequisiteError(
            f"No version of {case.name} is pushed; run `showcase run {case.name} --home {live.home}` first."
        )
    source = Home(live.home).metadata
    pushed = store.pushed_runs(source, case.name)
    with make_folder(live) as home:
        for run in pushed[-1:]:  # empty if the run was interrupted after its push
            copy_run(source, run, Home(home).metadata)
        shutil.copytree(version, Home(home).case(case.name).versions / version.name)
        yield home


@contextmanager
def run_child(words: Sequence[object], log: Path, module: str = "cli.main") -> Iterator[subprocess.Popen[str]]:
    """Start a child process that is ended with the block."""
    process = processes.start(words, log, module)
    try:
        yield process
    finally:
        processes.end(process)


@contextmanager
def serve_gateway(home: Path, case: UseCase, *options: object) -> Iterator[str]:
    """Run a gateway on a scratch home; yields its HOST:PORT."""
    ports = ("--port", 0, "--rest-port", -1, "--grpc-port", -1)
    words = ("serve", case.name, "--home", home, *ports, "--no-monitor", "--json", *options)
    with run_child(words, home / "serve.log") as process:
        yield servers.read_addresses(process, home / "serve.log")["gateway"].removeprefix("http://")


def follow_log(log: Path, process: subprocess.Popen[str]) -> Iterator[str]:
    """Yield the lines of a log while a process writes it, until the process ends.

    An empty line is yielded about every 0.1 s, so that the caller is never blocked.
    """
    position, rest = 0, ""
    while True:
        ended = process.poll() is not None
        if log.exists():
            with log.open() as stream:
                stream.seek(position)
                text = rest + stream.read()
                position = stream.tell()
            *complete, rest = text.split("\n")
            yield from complete
        if ended:
            return
        yield ""
        _wait()


def _wait(seconds: float = 0.1) -> None:
    import time

    time.sleep(seconds)


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie, which has ended but was not waited for, does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
