"""The launcher of a training cluster as a separate process, with methods that wait for its output."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.training.distribute.job import TrainingJob
from support.process import is_alive

LAUNCH = """
import sys
from pathlib import Path
from models.training.distribute import cluster
from models.errors import PreemptedError
from models.training.distribute.job import TrainingJob
cluster.WORKER = tuple(sys.argv[2:]) or cluster.WORKER
try:
    cluster.run(TrainingJob.read(Path(sys.argv[1])))
except PreemptedError as stopped:
    print(stopped, flush=True)
    sys.exit(42)
"""
PATIENCE = 300  # seconds; only a hanging process takes as long


class Launcher:
    """A launcher and the processes that it reports to have started.

    Args:
        job: The job to launch.
        worker: Arguments of Python for a task; by default the product's worker.
    """

    def __init__(self, job: TrainingJob, *worker: str):
        path = job.save(Path(job.folder, "launched.json"))
        self.log = Path(job.folder, f"launcher-{time.monotonic_ns()}.log")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TF_CPP_MIN_LOG_LEVEL": "2"}
        with self.log.open("w") as output:
            self.child = subprocess.Popen(
                [sys.executable, "-c", LAUNCH, str(path), *worker],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """Output of the launcher so far."""
        return self.log.read_text()

    def wait_for(self, pattern: str) -> re.Match:
        """Wait until the output matches a pattern; return the match."""
        deadline = time.monotonic() + PATIENCE
        while not (match := re.search(pattern, self.output)):
            ended = self.child.poll() is not None
            if match := re.search(pattern, self.output):
                break
            assert not ended and time.monotonic() < deadline, self.output
            time.sleep(0.02)
        return match

    def pids(self) -> dict[str, int]:
        """Return the process id of each task's last process."""
        tasks = re.findall(r"^(\w+ \d+) is process (\d+)$", self.output, re.MULTILINE)
        return {name: int(pid) for name, pid in tasks}

    def kill(self, task: str) -> None:
        """Kill the process of a task."""
        os.kill(self.pids()[task], signal.SIGKILL)

    def end(self) -> int:
        """Wait for the end and return the exit code; fail if a process is left."""
        code = self.child.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while any(is_alive(pid) for pid in self.pids().values()):
            assert time.monotonic() < deadline, "processes are left"
            time.sleep(0.02)
        return code


@contextmanager
def start_launcher(job: TrainingJob, *worker: str) -> Iterator[Launcher]:
    """Run a launcher; kill it at the end of the block."""
    launcher = Launcher(job, *worker)
    try:
        yield launcher
    finally:
        launcher.child.kill()
        launcher.child.wait()
