"""DVC files for folders of spans: DVC writes them and compares a folder with its file.

The data version of a run is the digest in its metadata and needs no DVC. A `.dvc` file is for teams that keep their
data in DVC: committed with the code, it identifies the same bytes.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]


def find_program() -> str | None:
    """Return the path of the ``dvc`` program, next to this Python or on the PATH; None if it is not installed."""
    sibling = Path(sys.executable).parent / "dvc"
    return str(sibling) if sibling.is_file() else shutil.which("dvc")


def write(folder: Path, run: Run = subprocess.run) -> Path:
    """Have DVC write the `.dvc` file next to the folder; the data is not moved and not copied to a cache.

    Raises:
        OSError: if DVC is not installed, or fails; the message is then DVC's.
    """
    folder = _resolve(folder)
    _call_dvc(folder, run, "add", "--no-commit", folder.name)
    return folder.with_name(f"{folder.name}.dvc")


def is_changed(folder: Path, run: Run = subprocess.run) -> bool:
    """Have DVC compare the folder with the `.dvc` file next to it.

    Raises:
        OSError: if there is no such file, or DVC is not installed, or fails; the message is then DVC's.
    """
    folder = _resolve(folder)
    if not folder.with_name(f"{folder.name}.dvc").is_file():
        raise OSError(f"There is no {folder}.dvc to compare with: write it with `showcase dvc {folder}`.")
    changes = json.loads(_call_dvc(folder, run, "data", "status", "--json")).get("uncommitted", {})
    root = next(parent for parent in folder.parents if (parent / ".dvc").is_dir())
    return any(root / path == folder for paths in changes.values() for path in paths)


def _resolve(folder: Path) -> Path:
    if not folder.is_dir():
        raise OSError(f"There is no folder {folder}.")
    return folder.resolve()


def _call_dvc(folder: Path, run: Run, *arguments: str) -> str:
    dvc = find_program()
    if dvc is None:
        raise OSError(
            "DVC is not installed; run `pip install dvc` in a separate environment and put its program on the PATH."
        )
    result = run([dvc, *arguments], cwd=folder.parent, capture_output=True, text=True)
    if result.returncode:
        message = (result.stderr.strip() or result.stdout.strip() or "no reason given").splitlines()[0]
        raise OSError(f"DVC refused {folder}: {message.removeprefix('ERROR: ')} (create a repository with `dvc init`)")
    return result.stdout
