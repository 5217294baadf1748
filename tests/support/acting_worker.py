"""Fake of models.training.worker for tests: a process that trains nothing and follows a script in the job's settings.

``acts`` in the settings has a list for each task: the script of its first process, of its second, and so on; the last one is
for all further processes. A script consists of these words, which are executed in order:

- ``say WHAT``: print a line, with spaces for ``_``;
- ``stay``: wait for a signal that ends the process; ``save``: wait for SIGTERM and continue;
- ``await KIND INDEX NUMBER``: wait until that many processes of a task have started;
- ``stop``: send SIGTERM to the launcher;
- ``die``: kill itself; ``end CODE``: exit with that code.

A process that is killed before it has started does not count, so a script that kills others has to await them first.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from models.training.distribute.job import ClusterTask, TrainingJob

PATIENCE = 60  # seconds; a condition becomes true at once or never


def wait(is_over: Callable[..., bool], *arguments: Any) -> None:
    """Wait until a condition holds; exit if it does not in time."""
    deadline = time.monotonic() + PATIENCE
    while not is_over(*arguments):
        if time.monotonic() > deadline:
            sys.exit("the condition did not become true in time")
        time.sleep(0.01)


def count_processes(folder: Path, kind: str, index: int | str) -> int:
    """Count the processes of a task that have started."""
    return len(list(folder.glob(f"{kind}-{index}.came.*")))


def have_arrived(folder: Path, kind: str, index: str, number: int) -> bool:
    """Whether that many processes of a task have started."""
    return count_processes(folder, kind, index) >= number


def act(words: Iterator[str], folder: Path, terminated: list[int]) -> None:
    """Execute the words of a script; ``terminated`` is not empty once SIGTERM has arrived."""
    for word in words:
        match word:
            case "say":
                print(next(words).replace("_", " "), flush=True)
            case "stay":
                wait(bool, False)
            case "save":
                wait(bool, terminated)
            case "await":
                wait(have_arrived, folder, next(words), next(words), int(next(words)))
            case "stop":
                os.kill(os.getppid(), signal.SIGTERM)
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "end":
                sys.exit(int(next(words)))


def main() -> None:
    """Run the script of this process."""
    job, task, terminated = TrainingJob.read(Path(sys.argv[1])), ClusterTask.from_environment(), []
    folder, acts = Path(job.folder), job.settings["acts"][f"{task.kind} {task.index}"]
    number = count_processes(folder, task.kind, task.index)
    words = acts[min(number, len(acts) - 1)].split()
    if "save" in words:
        signal.signal(signal.SIGTERM, lambda *_: terminated.append(1))
    (folder / f"{task.kind}-{task.index}.came.{number}").touch()
    act(iter(words), folder, terminated)


if __name__ == "__main__":
    main()
