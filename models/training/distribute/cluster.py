"""A training cluster on this machine: processes that find each other by TF_CONFIG, monitored and restarted."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.errors import PreemptedError
from models.training.distribute.job import ADDRESS_IN_USE, INVALID_SETTINGS, PREEMPTED
from models.training.distribute.local_processes import end_with_parent, find_free_ports

GRACE_SECONDS = 30.0  # seconds that processes have to save before they are killed
PROGRESS = ("epoch ", "went on ")
WORKER = ("-m", "models.training.worker")  # Python's arguments to run a task


@dataclass
class TaskProcess:
    """The process of one task.

    Attributes:
        read: Number of bytes of its log that have been printed.
    """

    kind: str
    index: int
    child: subprocess.Popen[bytes]
    log: Path
    read: int = 0

    @property
    def name(self) -> str:
        """The task in messages, such as ``worker 1``."""
        return f"{self.kind} {self.index}"


@dataclass
class Cluster:
    """All processes of one attempt to train.

    Attributes:
        strategy: The strategy, which determines what happens when a process dies.
        config: ``cluster`` of ``TF_CONFIG``: addresses by kind; empty for a strategy with one process.
    """

    job: Path
    strategy: str
    config: Mapping[str, list[str]]
    folder: Path
    processes: list[TaskProcess] = field(default_factory=list)

    def start(self) -> None:
        kinds = self.config or {"chief": [""]}
        for kind in sorted(kinds, key=("ps", "worker", "chief").index):
            for index in range(len(kinds[kind])):
                self.processes.append(self.launch(kind, index))

    def launch(self, kind: str, index: int) -> TaskProcess:
        """Start one task, with its output in its own log."""
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment.pop("TF_CONFIG", None)
        if self.config:
            tf_config = {"cluster": self.config, "task": {"type": kind, "index": index}}
            environment["TF_CONFIG"] = json.dumps(tf_config)
        log = self.folder / f"{kind}-{index}.log"
        with log.open("a") as output:
            offset = output.tell()
            child = subprocess.Popen(
                [sys.executable, *WORKER, str(self.job)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=end_with_parent,
                start_new_session=True,
            )
        print(f"{kind} {index} is process {child.pid}", flush=True)
        return TaskProcess(kind, index, child, log, offset)

    def print_progress(self) -> None:
        """Print the new progress lines of the process that writes the result."""
        chiefs = [process for process in self.processes if process.kind == "chief"]
        writer = (chiefs or self.processes)[0]
        with writer.log.open() as log:
            log.seek(writer.read)
            text = log.read()
        complete = text[: text.rfind("\n") + 1]
        writer.read += len(complete.encode())
        print("".join(line for line in complete.splitlines(True) if line.startswith(PROGRESS)), end="", flush=True)

    def terminate(self) -> None:
        """Send SIGTERM to the processes that train, so that they save and end."""
        for process in self.processes:
            if process.kind == "chief" or self.strategy == "multiworker":
                with contextlib.suppress(ProcessLookupError):
                    process.child.terminate()

    def kill(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.child.kill()
            process.child.wait()
        self.processes.clear()


def run(job: Any) -> None:
    """Train a job in separate processes on this machine; restart from the checkpoint at most ``restarts`` times.

    - Processes: one for mirrored and tpu; ``workers`` for multiworker; a coordinator, ``workers`` and
      ``parameter_servers`` for parameter-server.
    - If a process dies under multiworker, the others cannot continue, so the whole cluster restarts at the last
      checkpoint. Under parameter-server a dead worker is restarted while the others continue; if a parameter server or
      the coordinator dies, the whole cluster restarts.

    Args:
        job: A :class:`models.training.distribute.job.TrainingJob`.

    Raises:
        PreemptedError: after SIGTERM, when all processes have saved.
        RuntimeError: naming the task that failed after all restarts, its last line and its log.
        ValueError: if the settings are not compatible.
    """
    folder = Path(job.folder)
    path = job.save(folder / "job.json")
    with _collect_sigterm() as signals:
        restarts_left = job.settings["restarts"]
        while True:
            cluster = Cluster(path, job.settings["strategy"], allocate_addresses(job.settings), folder)
            (folder / "cluster.json").write_text(json.dumps(cluster.config))
            try:
                cluster.start()
                failed = _wait(cluster, signals, job.settings["restarts"])
            finally:
                cluster.kill()
            if failed is None:
                return
            print(f"{_describe_end(failed)} {restarts_left} restarts are left.", flush=True)
            if restarts_left <= 0:
                break
            restarts_left -= 1
    raise RuntimeError(
        f"{_describe_end(failed)} It was restarted {job.settings['restarts']} times; its log is {failed.log}."
    )


def allocate_addresses(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """The ``cluster`` of ``TF_CONFIG`` on free ports of this machine; empty for a strategy with one process."""
    counts = {"multiworker": {"worker": settings["workers"]}}
    counts["parameter-server"] = {"chief": 1, "worker": settings["workers"], "ps": settings["parameter_servers"]}
    tasks = counts.get(settings["strategy"], {})
    ports = iter(find_free_ports(sum(tasks.values())))
    return {kind: [f"localhost:{next(ports)}" for _ in range(count)] for kind, count in tasks.items()}


def _wait(cluster: Cluster, signals: list[int], restarts: int) -> TaskProcess | None:
    """Wait until training ends; return None if it is done, else the process that died."""
    deadline, handled = None, 0
    while True:
        if len(signals) > handled:
            handled, deadline = len(signals), deadline or time.monotonic() + GRACE_SECONDS
            cluster.terminate()
        if deadline and time.monotonic() > deadline:
            raise PreemptedError("Training was stopped and did not save in time; it resumes at its last checkpoint.")
        cluster.print_progress()
        ended = [process for process in cluster.processes if process.child.poll() is not None]
        for process in ended:
            code = process.child.returncode
            if code == PREEMPTED:
                raise PreemptedError(_read_last_line(process.log))
            if deadline and code == -signal.SIGTERM:
                raise PreemptedError("Training was stopped before it had begun; run the same command to start it.")
            if code == INVALID_SETTINGS:
                raise ValueError(_read_last_line(process.log))
            if (
                cluster.strategy == "parameter-server"
                and process.kind == "worker"
                and restarts > 0
                and code != ADDRESS_IN_USE
            ):
                restarts -= 1
                print(f"{_describe_end(process)} Training continues; the process is restarted.", flush=True)
                cluster.processes[cluster.processes.index(process)] = cluster.launch(process.kind, process.index)
            elif code != 0:
                return process
        trainers = [
            process for process in cluster.processes if process.kind == "chief" or cluster.strategy == "multiworker"
        ]
        if all(trainer.child.poll() == 0 for trainer in trainers):
            return None
        time.sleep(0.1)


@contextlib.contextmanager
def _collect_sigterm() -> Iterator[list[int]]:
    """Collect SIGTERM signals instead of being ended by them."""
    signals: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    try:
        yield signals
    finally:
        signal.signal(signal.SIGTERM, previous)


def _describe_end(process: TaskProcess) -> str:
    code = process.child.returncode
    ending = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return f"{process.name} {ending}: {_read_last_line(process.log)}"


def _read_last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:400] if lines else "it wrote nothing."
