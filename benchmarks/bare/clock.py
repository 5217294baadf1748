"""Timing of the bare script's steps."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Clock:
    """Seconds and rows of each step; each is printed on standard error when it ends."""

    def __init__(self) -> None:
        self.seconds = {"imports": process_age()}
        self.rows: dict[str, int] = {}

    @contextmanager
    def step(self, name: str, rows: int = 0) -> Iterator[None]:
        """Time the block as one step."""
        started = time.perf_counter()
        yield
        self.seconds[name], self.rows[name] = time.perf_counter() - started, rows
        print(f"{name:17} done     {self.seconds[name]:6.1f} s", file=sys.stderr, flush=True)


def process_age() -> float:
    """Seconds since this process started, including its imports."""
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def peak_mb() -> float:
    """Peak resident memory of this process, in MiB."""
    line = next(text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
