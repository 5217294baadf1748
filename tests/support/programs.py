"""Programs that tests start, kill, and that not every machine has."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest


def needs(*programs: str) -> str:
    """The first of the programs that is on this machine; without one skips, or fails where that may not be: under CI."""
    found = next(filter(None, map(shutil.which, programs)), None)
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"This machine has no {' or '.join(programs)}.")
    return found


def told_before_kill_9(command: Sequence[str | Path], root: Path, enough: Callable[[list[str]], bool]) -> list[str]:
    """The words that a program has printed, in whole lines, once they are enough and it was killed."""
    process, told = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root), []
    try:
        while not enough(told):
            told += process.stdout.readline().split()
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    return told + process.stdout.read().rpartition("\n")[0].split()
