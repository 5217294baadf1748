"""A scratch copy of what an incident breaks: it lies in the home, and goes with the incident."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from models.catalog import CASES
from models.use_case import UseCase
from pipeline.local import processes
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.metadata.run_copy import copy_run
from pipeline.online import rollouts
from tour.demo import serving
from tour.incidents.incident import Live, MissingError


def cheapest(home: Path) -> UseCase:
    """The pushed case that needs the least: one whose rows have no past, if there is one.

    Raises:
        MissingError: if nothing is pushed.
    """
    pushed = [case for case in CASES.values() if rollouts.served_version(home, case.name)]
    if not pushed:
        raise MissingError(f"Nothing has been pushed under {home}; `showcase demo --home {home}` makes models.")
    return min(pushed, key=lambda case: bool(case.time))


def last_pushed(home: Path, case: UseCase) -> store.Run:
    """The run that pushed last.

    Raises:
        MissingError: if there is none.
    """
    runs = [run for run in store.runs(local_runtime(home).metadata, case.name) if run.state == "pushed"]
    if not runs:
        raise MissingError(
            f"No run of {case.name} under {home} has ended in a push; `showcase run {case.name}` makes one."
        )
    return runs[-1]


@contextmanager
def empty(live: Live) -> Iterator[Path]:
    """A folder that is gone at the end, also where the incident is stopped."""
    live.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".break-", dir=live.home, ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def copied(live: Live, case: UseCase) -> Iterator[Path]:
    """A home with the case's served version and the run that pushed last: its finished stages are found done in it."""
    version = rollouts.served_version(live.home, case.name)
    if version is None:
        raise MissingError(
            f"Nothing of {case.name} has been pushed; `showcase run {case.name} --home {live.home}` does it."
        )
    source = local_runtime(live.home).metadata
    pushed = [run for run in store.runs(source, case.name) if run.state == "pushed"]
    with empty(live) as home:
        for run in pushed[-1:]:  # none if the run was stopped after its push
            copy_run(source, run, local_runtime(home).metadata)
        shutil.copytree(version, Path(local_runtime(home).versions(case.name), version.name))
        yield home


@contextmanager
def child(words: Sequence[object], log: Path, module: str = "cli.main") -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block."""
    started = processes.start(words, log, module)
    try:
        yield started
    finally:
        processes.end(started)


@contextmanager
def served(home: Path, case: UseCase, *options: object) -> Iterator[str]:
    """A gateway over a scratch home; its HOST:PORT."""
    ports = ("--port", 0, "--rest-port", -1, "--grpc-port", -1)
    words = ("serve", case.name, "--home", home, *ports, "--no-monitor", "--json", *options)
    with child(words, home / "serve.log") as process:
        yield serving.read_addresses(process, home / "serve.log")["gateway"].removeprefix("http://")


def lines(log: Path, process: subprocess.Popen[str]) -> Iterator[str]:
    """The lines of a log while a process writes it, to the end of both; an empty one now and then, so that nobody blocks."""
    position, rest = 0, ""
    while True:
        over = process.poll() is not None
        if log.exists():
            with log.open() as stream:
                stream.seek(position)
                text = rest + stream.read()
                position = stream.tell()
            *whole, rest = text.split("\n")
            yield from whole
        if over:
            return
        yield ""
        _wait()


def _wait(seconds: float = 0.1) -> None:
    import time

    time.sleep(seconds)


def alive(pid: int) -> bool:
    """Whether a process is there; one that has ended and was not waited for is not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
