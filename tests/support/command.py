"""The command line, run as a person runs it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def showcase(*words: object, timeout: float = 1200) -> subprocess.CompletedProcess:
    """The command line in a process of its own, as a person has it."""
    command = [sys.executable, "-m", "pipeline.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT)
