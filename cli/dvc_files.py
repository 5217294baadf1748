"""A DVC file for a folder of spans: DVC writes it, and whether a folder is what it says can be checked without DVC.

The data version of a run is the digest in its metadata and needs none of this. A `.dvc` file is for teams that keep
their data in DVC: committed beside the code, it names the same bytes.
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
class Tracked:
    """What a `.dvc` file says of a folder: MD5 of its list of files, bytes in all, number of files, its path."""

    md5: str
    size: int
    nfiles: int
    path: Path


def program() -> str | None:
    """DVC's program: beside this Python or on the PATH; None if it is not installed."""
    beside = Path(sys.executable).parent / "dvc"
    return str(beside) if beside.is_file() else shutil.which("dvc")


def write(folder: Path, run: Run = subprocess.run) -> Path:
    """Has DVC write the `.dvc` file beside the folder; the data itself is left where it is, and not copied to a cache.

    Raises:
        OSError: if DVC is not installed, or in DVC's words.
    """
    folder = _existing(folder)
    dvc = program()
    if dvc is None:
        raise OSError("DVC is not installed; `pip install dvc` in an environment of its own, and put it on the PATH.")
    done = run([dvc, "add", "--no-commit", folder.name], cwd=folder.parent, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it gave no reason").splitlines()[0]
        raise OSError(f"DVC refused {folder}: {said.removeprefix('ERROR: ')} (`dvc init` makes a repository)")
    return folder.with_name(folder.name + ".dvc")


def read(file: Path) -> Tracked:
    """What a `.dvc` file says.

    Raises:
        ValueError: if it is not DVC 3's description of one folder.
    """
    try:
        (out,) = yaml.safe_load(file.read_text())["outs"]
        if out["hash"] != "md5" or not out["md5"].endswith(".dir"):
            raise KeyError("md5")
        return Tracked(out["md5"], int(out["size"]), int(out["nfiles"]), file.parent / out["path"])
    except (KeyError, TypeError, ValueError, yaml.YAMLError):
        raise ValueError(f"{file} is no .dvc file of one folder as DVC 3 writes it.") from None


def measure(folder: Path) -> Tracked:
    """What DVC would say of the folder as it is now: MD5 of the list of its files' paths and MD5s, as JSON."""
    folder = _existing(folder)
    paths = [p for p in folder.rglob("*") if p.is_file()]
    entries = sorted(({"md5": _md5(p), "relpath": p.relative_to(folder).as_posix()} for p in paths), key=_path)
    total = hashlib.md5(json.dumps(entries, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
    return Tracked(f"{total}.dir", sum(p.stat().st_size for p in paths), len(paths), folder)


def differences(file: Path) -> Sequence[str]:
    """What of the folder is not as its `.dvc` file says; empty if all is."""
    told = read(file)
    found = measure(told.path)
    pairs = {"files": (told.nfiles, found.nfiles), "bytes": (told.size, found.size), "hash": (told.md5, found.md5)}
    return [f"{name} {here}, and {file.name} has {there}" for name, (there, here) in pairs.items() if here != there]


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise OSError(f"There is no folder {folder}.")
    return folder.resolve()


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def _path(entry: dict[str, str]) -> str:
    return entry["relpath"]
