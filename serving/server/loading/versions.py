"""Which versions lie in a model's folder, and what became of each."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

GRAPHS = ("saved_model.pb",)
STATES = {"START": 10, "LOADING": 20, "AVAILABLE": 30, "UNLOADING": 40, "END": 50}


@dataclass
class State:
    """Where a version is in its life.

    Attributes:
        version: Its number.
        state: A name of ``STATES``.
        code: Name of the gRPC status; ``OK`` unless loading failed.
        message: Why it failed.
    """

    version: int
    state: str
    code: str = "OK"
    message: str = ""


def complete(base: Path, settle: float) -> dict[int, Path]:
    """Folders of the versions that are whole: they hold a model, and nothing in them has changed for ``settle`` seconds.

    A copy under way changes all the time, whichever name it has, so it is never read half-written.
    """
    found = {}
    try:
        names = [entry.name for entry in os.scandir(base) if entry.name.isdecimal()]
    except FileNotFoundError:
        return {}
    for name in names:
        path = base / name
        changed = last_change(path)
        if changed is not None and not (settle and time.time() - settle < changed <= time.time()):
            found[int(name)] = path
    return found


def last_change(path: Path) -> float | None:
    """When a file of the model's folder was last written or put there; None if there is no model yet, or no more."""
    try:
        if not any((path / name).is_file() for name in GRAPHS):
            return None
        return max(os.stat(os.path.join(folder, name)).st_ctime for folder, _, files in os.walk(path) for name in files)
    except OSError:
        return None
