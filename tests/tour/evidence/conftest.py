"""Fixtures: evidence on the runs of the shared home and of a changed copy."""

from pathlib import Path

import pytest
from filelock import FileLock
from support.changed_home import copy_changed, link_home
from support.proofs import EvidenceCache


@pytest.fixture(scope="session")
def proofs(pushed_home: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> EvidenceCache:
    """Evidence on the runs of the shared home, shared by all test processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "proofs"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            link_home(pushed_home, folder / "home")
    return EvidenceCache(folder / "home", folder)


@pytest.fixture(scope="session")
def changed_proofs(pushed_home: Path, proofs: EvidenceCache, tmp_path_factory: pytest.TempPathFactory) -> EvidenceCache:
    """Evidence on the runs of a changed copy; the compiled edge programs of the first home are reused."""
    folder = tmp_path_factory.mktemp("changed")
    home = copy_changed(pushed_home, folder / "home")
    (proofs.home / "edge").mkdir(exist_ok=True)
    (home / "edge").symlink_to(proofs.home / "edge")
    return EvidenceCache(home, folder)
