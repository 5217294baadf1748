"""Run a Python process and measure its wall and CPU seconds."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT


class MeasurementError(Exception):
    """A measured process failed; the message is one sentence."""


def run_timed(arguments: Sequence[Any], out: Path, quiet: bool = False) -> tuple[dict[str, float], str]:
    """Run Python at the root; return wall and CPU seconds, and its standard output, which is stored in ``out``.

    Args:
        arguments: Arguments of the interpreter.
        out: File for the standard output.
        quiet: Show only progress from its standard error, not the messages of libraries.

    Raises:
        MeasurementError: for an exit code above 1, or 1 without output: a refused run exits with 1 and prints its outcome.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    command, started = [sys.executable, *map(str, arguments)], time.perf_counter()
    with out.open("w") as stdout:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE if quiet else None, text=True, errors="replace"
        )
        try:
            error = _relay_progress(process) if quiet else ""
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    wall, process.returncode, text = time.perf_counter() - started, os.waitstatus_to_exitcode(status), out.read_text()
    if process.returncode not in (0, 1) or (process.returncode and not text):
        name = " ".join(command[1:4]).removeprefix("-m ")
        raise MeasurementError(error or f"{name} ended with exit code {process.returncode}; its messages are above.")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime}, text


def _relay_progress(process: subprocess.Popen[str]) -> str:
    """Print progress as it arrives; return the error message, or else the last line."""
    last = error = ""
    for line in process.stderr or ():
        last = line.strip() or last
        if line.startswith("error:"):
            error = line.removeprefix("error:").strip()
        if line.startswith("  epoch") or " done " in line:
            print(line, end="", file=sys.stderr, flush=True)
    return error or last
