"""Programs that tests start and kill, and that a machine may lack."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest


def needs(*programs: str) -> str:
    """Return the first of the programs that is installed; without one skip, or fail under CI."""
    program = next(filter(None, map(shutil.which, programs)), None)
    if not program:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"This machine has no {' or '.join(programs)}.")
    return program


def read_words_until_killed(
    command: Sequence[str | Path], root: Path, is_enough: Callable[[list[str]], bool]
) -> list[str]:
    """Kill a program with SIGKILL once its output is enough; return the words of its complete lines."""
    process, words = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root), []
    try:
        while not is_enough(words):
            words += process.stdout.readline().split()
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    return words + process.stdout.read().rpartition("\n")[0].split()
