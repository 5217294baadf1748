"""A process that replaces models.training.worker in tests: it trains nothing and does as the job's settings say.

``acts`` in the settings has a list for each task: what its first process does, its second, and so on, the last for all that
follow. An act is words that are done in turn:

- ``say WHAT``: prints it as a line, ``_`` being a space;
- ``stay``: waits for a signal that ends it; ``save``: waits for SIGTERM and goes on;
- ``await KIND INDEX NUMBER``: waits until so many processes of a task have come;
- ``stop``: sends SIGTERM to the launcher;
- ``die``: kills itself; ``end CODE``: ends with that code.

What is killed before it has come does not count: an act that kills others has to await them first.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from models.training.distribute.job import Job, Task

PATIENCE = 60  # seconds; what is waited for comes at once or never


def wait(over: Callable[..., bool], *about: Any) -> None:
    """Waits until a condition holds; ends the process if it never does."""
    deadline = time.monotonic() + PATIENCE
    while not over(*about):
        if time.monotonic() > deadline:
            sys.exit("waited in vain")
        time.sleep(0.01)


def arrived(folder: Path, kind: str, index: int | str) -> int:
    """How many processes of a task have come."""
    return len(list(folder.glob(f"{kind}-{index}.came.*")))


def have_come(folder: Path, kind: str, index: str, number: int) -> bool:
    """Whether so many processes of a task have come."""
    return arrived(folder, kind, index) >= number


def act(words: Iterator[str], folder: Path, asked: list[int]) -> None:
    """Does one thing after the other; ``asked`` is filled once SIGTERM has come."""
    for word in words:
        match word:
            case "say":
                print(next(words).replace("_", " "), flush=True)
            case "stay":
                wait(bool, False)
            case "save":
                wait(bool, asked)
            case "await":
                wait(have_come, folder, next(words), next(words), int(next(words)))
            case "stop":
                os.kill(os.getppid(), signal.SIGTERM)
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "end":
                sys.exit(int(next(words)))


def main() -> None:
    """The program."""
    job, task, asked = Job.read(Path(sys.argv[1])), Task.here(), []
    folder, acts = Path(job.folder), job.settings["acts"][f"{task.kind} {task.index}"]
    before = arrived(folder, task.kind, task.index)
    words = acts[min(before, len(acts) - 1)].split()
    if "save" in words:
        signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    (folder / f"{task.kind}-{task.index}.came.{before}").touch()
    act(iter(words), folder, asked)


if __name__ == "__main__":
    main()
