"""DVC files for folders of spans: DVC writes them, and a folder is compared with its file without DVC.

The data version of a run is the digest in its metadata and needs no DVC. A `.dvc` file is for teams that keep their
data in DVC: committed with the code, it identifies the same bytes.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

Run = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class DvcOutput:
    """A folder as a `.dvc` file describes it.

    Attributes:
        md5: MD5 of the list of its files, with the suffix ``.dir``.
        size: Total size in bytes.
        nfiles: Number of files.
        path: The folder.
    """

    md5: str
    size: int
    nfiles: int
    path: Path


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
    dvc = find_program()
    if dvc is None:
        raise OSError(
            "DVC is not installed; run `pip install dvc` in a separate environment and put its program on the PATH."
        )
    result = run([dvc, "add", "--no-commit", folder.name], cwd=folder.parent, capture_output=True, text=True)
    if result.returncode:
        message = (result.stderr.strip() or result.stdout.strip() or "no reason given").splitlines()[0]
        raise OSError(f"DVC refused {folder}: {message.removeprefix('ERROR: ')} (create a repository with `dvc init`)")
    return folder.with_name(folder.name + ".dvc")


def read(file: Path) -> DvcOutput:
    """Read a `.dvc` file.

    Raises:
        ValueError: if it is not a description of one folder in the format of DVC 3.
    """
    try:
        (out,) = yaml.safe_load(file.read_text())["outs"]
        if out["hash"] != "md5" or not out["md5"].endswith(".dir"):
            raise KeyError("md5")
        return DvcOutput(out["md5"], int(out["size"]), int(out["nfiles"]), file.parent / out["path"])
    except (KeyError, TypeError, ValueError, yaml.YAMLError):
        raise ValueError(f"{file} is not a .dvc file of one folder in the format of DVC 3.") from None


def measure(folder: Path) -> DvcOutput:
    """Describe the folder as DVC would: its MD5 is that of the JSON list of its files' paths and MD5s."""
    folder = _resolve(folder)
    paths = [p for p in folder.rglob("*") if p.is_file()]
    entries = sorted(
        ({"md5": _compute_md5(p), "relpath": p.relative_to(folder).as_posix()} for p in paths), key=_get_path
    )
    total = hashlib.md5(json.dumps(entries, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
    return DvcOutput(f"{total}.dir", sum(p.stat().st_size for p in paths), len(paths), folder)


def find_differences(file: Path) -> Sequence[str]:
    """List how the folder differs from its `.dvc` file; empty if it does not."""
    expected = read(file)
    actual = measure(expected.path)
    pairs = {
        "files": (expected.nfiles, actual.nfiles),
        "bytes": (expected.size, actual.size),
        "hash": (expected.md5, actual.md5),
    }
    return [f"{name} {now}, {file.name} has {recorded}" for name, (recorded, now) in pairs.items() if now != recorded]


def _resolve(folder: Path) -> Path:
    if not folder.is_dir():
        raise OSError(f"There is no folder {folder}.")
    return folder.resolve()


def _compute_md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def _get_path(entry: dict[str, str]) -> str:
    return entry["relpath"]
