"""Processes that tests look at."""

import os
from contextlib import suppress
from pathlib import Path


def alive(pid: int) -> bool:
    with suppress(OSError):
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return False
