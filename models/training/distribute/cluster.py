"""A training cluster on this machine: real processes, told of each other by TF_CONFIG, watched and restarted."""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.errors import Preempted
from models.training.distribute.job import PREEMPTED, UNBOUND, WRONG

GRACE = 30.0  # seconds that processes get to save before they are killed
PR_SET_PDEATHSIG = 1
PROGRESS = ("epoch ", "went on ")
WORKER = ("-m", "models.training.worker")  # what Python runs as a task


@dataclass
class Process:
    """One running task.

    Attributes:
        read: Bytes of its log that have been passed on.
    """

    kind: str
    index: int
    child: subprocess.Popen[bytes]
    log: Path
    read: int = 0

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.kind} {self.index}"


@dataclass
class Cluster:
    """All processes of one attempt.

    Attributes:
        strategy: Which decides what the death of a process means.
        config: ``cluster`` of ``TF_CONFIG``: addresses by kind; empty for a strategy of one process.
    """

    job: Path
    strategy: str
    config: Mapping[str, list[str]]
    folder: Path
    processes: list[Process] = field(default_factory=list)

    def start(self) -> None:
        """Starts every task."""
        kinds = self.config or {"chief": [""]}
        for kind in sorted(kinds, key=("ps", "worker", "chief").index):
            for index in range(len(kinds[kind])):
                self.processes.append(self.launch(kind, index))

    def launch(self, kind: str, index: int) -> Process:
        """Starts one task, its output in a log of its own."""
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment.pop("TF_CONFIG", None)
        if self.config:
            told = {"cluster": self.config, "task": {"type": kind, "index": index}}
            environment["TF_CONFIG"] = json.dumps(told)
        log = self.folder / f"{kind}-{index}.log"
        with log.open("a") as output:
            before = output.tell()
            child = subprocess.Popen(
                [sys.executable, *WORKER, str(self.job)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,
                start_new_session=True,
            )
        print(f"{kind} {index} is process {child.pid}", flush=True)
        return Process(kind, index, child, log, before)

    def pass_on(self) -> None:
        """Prints what the process that writes the result has said of its progress since the last time."""
        chiefs = [one for one in self.processes if one.kind == "chief"]
        first = (chiefs or self.processes)[0]
        with first.log.open() as log:
            log.seek(first.read)
            text = log.read()
        whole = text[: text.rfind("\n") + 1]
        first.read += len(whole.encode())
        print("".join(line for line in whole.splitlines(True) if line.startswith(PROGRESS)), end="", flush=True)

    def terminate(self) -> None:
        """Tells those that train to save and end."""
        for process in self.processes:
            if process.kind == "chief" or self.strategy == "multiworker":
                with contextlib.suppress(ProcessLookupError):
                    process.child.terminate()

    def kill(self) -> None:
        """Ends every process at once."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.child.kill()
            process.child.wait()
        self.processes.clear()


def run(job: Any) -> None:
    """Trains a job in processes of its own on this machine; restarts from the checkpoint what dies, at most N times.

    - mirrored, tpu: one process; multiworker: ``workers`` of them; parameter-server: a coordinator, ``workers`` and
      ``parameter_servers``.
    - A process dies: under multiworker the rest cannot go on, so the whole cluster starts again at the last checkpoint;
      under parameter-server a worker is started anew while the others go on, a parameter server or the coordinator takes
      the cluster with it.

    Args:
        job: A :class:`models.training.distribute.job.Job`.

    Raises:
        Preempted: after SIGTERM, all processes having saved.
        RuntimeError: naming the task that died for good, its last line and its log.
        ValueError: if the switches do not go together.
    """
    folder = Path(job.folder)
    path = job.save(folder / "job.json")
    with _forwarded() as told:
        left = job.settings["restarts"]
        while True:
            cluster = Cluster(path, job.settings["strategy"], addresses(job.settings), folder)
            (folder / "cluster.json").write_text(json.dumps(cluster.config))
            try:
                cluster.start()
                failed = _watch(cluster, told, job.settings["restarts"])
            finally:
                cluster.kill()
            if failed is None:
                return
            print(f"{_story(failed)} {left} restarts are left.", flush=True)
            if left <= 0:
                break
            left -= 1
    raise RuntimeError(f"{_story(failed)} It was restarted {job.settings['restarts']} times; its log is {failed.log}.")


def addresses(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """The ``cluster`` of ``TF_CONFIG`` on free ports of this machine; empty for a strategy of one process."""
    counts = {"multiworker": {"worker": settings["workers"]}}
    counts["parameter-server"] = {"chief": 1, "worker": settings["workers"], "ps": settings["parameter_servers"]}
    wanted = counts.get(settings["strategy"], {})
    ports = iter(_ports(sum(wanted.values())))
    return {kind: [f"localhost:{next(ports)}" for _ in range(count)] for kind, count in wanted.items()}


def _watch(cluster: Cluster, told: list[int], restarts: int) -> Process | None:
    """Waits for the end: None when training is done, else the process that died."""
    deadline, told_at = None, 0
    while True:
        if len(told) > told_at:
            told_at, deadline = len(told), deadline or time.monotonic() + GRACE
            cluster.terminate()
        if deadline and time.monotonic() > deadline:
            raise Preempted("Training was told to stop and did not save in time; it goes on at its last checkpoint.")
        cluster.pass_on()
        ended = [one for one in cluster.processes if one.child.poll() is not None]
        for process in ended:
            code = process.child.returncode
            if code == PREEMPTED:
                raise Preempted(_last_line(process.log))
            if deadline and code == -signal.SIGTERM:
                raise Preempted("Training was told to stop before it had begun; the same command starts it.")
            if code == WRONG:
                raise ValueError(_last_line(process.log))
            if cluster.strategy == "parameter-server" and process.kind == "worker" and restarts > 0 and code != UNBOUND:
                restarts -= 1
                print(f"{_story(process)} Training goes on; it is started again.", flush=True)
                cluster.processes[cluster.processes.index(process)] = cluster.launch(process.kind, process.index)
            elif code != 0:
                return process
        trainers = [one for one in cluster.processes if one.kind == "chief" or cluster.strategy == "multiworker"]
        if all(one.child.poll() == 0 for one in trainers):
            return None
        time.sleep(0.1)


@contextlib.contextmanager
def _forwarded() -> Iterator[list[int]]:
    """Collects SIGTERM in place of dying of it."""
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)


def _story(process: Process) -> str:
    code = process.child.returncode
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"{process.name} {how}: {_last_line(process.log)}"


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:400] if lines else "it wrote nothing."


def _ports(count: int) -> list[int]:
    """Ports that are free now, all held open until the last is found so that none comes twice."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]


def _die_with_parent() -> None:
    """No orphans: the kernel kills the process when the launcher's thread ends, however that happens."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
