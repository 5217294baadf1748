"""Homes with a pushed run of every case, created once for all tests and cached between invocations.

A home is a folder of pytest's cache, ``.pytest_cache/d/homes``. It is part of the checkout, as it depends on its code; git
ignores it, and ``make clean`` and ``pytest --cache-clear`` remove it. Its name ends in a digest of everything that determines
the artifacts of a run, so that a home of other code, packages or settings is never used. The metadata store contains absolute
paths, so a home is created at its final path; ``complete.json``, written last, marks a complete one.

Tests only read it. A test that changes something works on a copy: :func:`copy_home`.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from models.catalog import CASES
from pipeline import cache_key
from pipeline.plan import PACKAGES
from support.command import showcase

MARKER = "complete.json"
PROGRAMS = {"edge"}  # folders of the home with programs that evidence compiles; they contain nothing of a run
KEPT = 2  # homes of one name in the cache: the last two that were used
PARTS = ("case", "data", "evaluation", "features", "model", "sentences")
MODULES = (
    "models.training.entry_point",
    "cli.commands",
    "pipeline.graph",
    "pipeline.local.runner",
    "pipeline.tracking.mlflow_process",
    "pipeline.outcome",
    *(case.module(part) for case in CASES.values() for part in PARTS),
)

# Settings of the small home by case, with enough rows and epochs to pass every default gate with a margin.
SMALL_RUNS: dict[str, dict[str, object]] = {
    "fraud": {
        "rows": 40_000,
        "days": 40,
        "warmup_days": 3,
        "valid_days": 4,
        "eval_days": 6,
        "epochs": 6,
        "width": 24,
        "batch_size": 256,
        "learning_rate": 0.01,
        "embedding_epochs": 1,
    },
    "image": {"epochs": 12},
}
DEFAULT_RUNS: dict[str, dict[str, object]] = {case: {} for case in CASES}

Settings = Mapping[str, Mapping[str, object]]


def cached_home(cache: Path, name: str, settings: Settings) -> Path:
    """Return a home with a pushed run of every case, from the cache or created now by one process at a time.

    Args:
        cache: Folder of the homes.
        name: Name of the home; homes of other names do not evict it from the cache.
        settings: Changed settings of each case's run.
    """
    home = cache / f"{name}-{digest(settings)}"
    with FileLock(cache / f"{name}.lock"):
        if not is_complete(home):
            shutil.rmtree(home, ignore_errors=True)
            make_home(home, settings)
        os.utime(home / MARKER)
        remove_old(cache, name)
    return home


def digest(settings: Settings) -> str:
    """Hash what determines the contents of a home: code, schemas, packages, settings and this module."""
    schemas = {name: case.schema_path.read_text() for name, case in CASES.items()}
    packages = [cache_key.lock_digest(), *map(version, PACKAGES)]
    parts = [cache_key.digest(*MODULES), schemas, packages, settings, Path(__file__).read_text()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def make_home(home: Path, settings: Settings) -> None:
    """Run every case's pipeline on its embedded data, in an empty home."""
    runs = {}
    for case in CASES:
        result = showcase("run", case, "--home", home, "--json", *format_settings(settings[case]))
        assert result.returncode == 0, result.stdout + result.stderr
        runs[case] = json.loads(result.stdout)
    (home / MARKER).write_text(json.dumps({"home": str(home), "runs": runs, "files": list_files(home)}))


def is_complete(home: Path) -> bool:
    """Whether the home is complete, was created at this path, and has not been changed since."""
    if not (home / MARKER).is_file():
        return False
    record = json.loads((home / MARKER).read_text())
    return record["home"] == str(home) and not changed_files(home)


def changed_files(home: Path) -> list[str]:
    """List files of the home that were added, removed or written since it was created."""
    before = json.loads((home / MARKER).read_text())["files"]
    now = list_files(home)
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def list_files(home: Path) -> dict[str, list[int]]:
    """Return size and modification time of every file by its path in the home, without files that readers may create."""
    files = {}
    for path in sorted(home.rglob("*")):
        ignored = path.name == MARKER or path.suffix == ".lock" or path.relative_to(home).parts[0] in PROGRAMS
        if path.is_file() and not ignored:
            stat = path.stat()
            files[str(path.relative_to(home))] = [stat.st_size, stat.st_mtime_ns]
    return files


def format_settings(settings: Mapping[str, object]) -> list[str]:
    """Return settings as the command line takes them."""
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


def read_runs(home: Path) -> dict[str, dict[str, Any]]:
    """Return the output of ``showcase run --json`` for every case's run in the home."""
    return json.loads((home / MARKER).read_text())["runs"]


def copy_home(home: Path, copy: Path) -> Path:
    """Copy what a test may change: the store and the pushed versions. Artifacts stay in the original home."""
    shutil.copy(home / "metadata.sqlite", copy / "metadata.sqlite")
    for case in CASES:
        shutil.copytree(home / case / "versions", copy / case / "versions")
    return copy


def remove_old(cache: Path, name: str) -> None:
    """Remove the homes of that name except the last two that were used; incomplete ones count as the oldest."""
    homes = [path for path in cache.glob(f"{name}-*") if path.is_dir()]
    used = {path: (path / MARKER).stat().st_mtime if (path / MARKER).exists() else 0.0 for path in homes}
    for path in sorted(homes, key=used.__getitem__, reverse=True)[KEPT:]:
        shutil.rmtree(path, ignore_errors=True)
