"""Writes bytes durably, and finds out whether a folder can be written."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

PROBE_BYTES = 16 << 10  # more than a group of records usually has


def write_durably(file: int, data: bytes) -> None:
    """Write all of ``data`` and wait until it is on disk."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    os.fdatasync(file)


def find_write_problem(folder: Path, write: Callable[[int, bytes], None] = write_durably) -> str:
    """Return why no file can be written in the folder, such as a full disk or missing permission; empty if one can."""
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as stream:  # it never has a name where the system allows
            write(stream.fileno(), bytes(PROBE_BYTES))
    except OSError as error:
        return error.strerror or str(error)
    return ""
