"""A run after a change of docstrings and comments only is cached completely."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import ROOT
from support.wording import reword

from models.catalog import CASES
from pipeline import cache_key
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def reworded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the product with different docstrings, comments and blank lines."""
    tree = tmp_path_factory.mktemp("reworded")
    for top in (*sorted(cache_key.OURS), "cli", "tour"):
        shutil.copytree(ROOT / top, tree / top, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    for path in tree.rglob("*.py"):
        reword(path)
    return tree


@pytest.mark.parametrize("case", CASES)
def test_run_after_rewording_is_fully_cached(pushed_home: Path, reworded: Path, tmp_path: Path, case: str) -> None:
    shutil.copy(pushed_home / "metadata.sqlite", tmp_path / "metadata.sqlite")
    shutil.copytree(pushed_home / case / "versions", tmp_path / case / "versions")
    before = next(run for run in store.runs(MetadataAddress.of(tmp_path), case) if run.state == "pushed")
    settings = {
        name: value
        for group in json.loads(before.facts["settings"]).values()
        for name, value in group.items()
        if name in {key for values in CASES[case].settings.values() for key in values}
    }
    setting_arguments = [argument for name, value in settings.items() for argument in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "cli.main", "run", case, "--home", tmp_path, "--data", before.facts["source"]]
    process = subprocess.run(
        [*command, "--json", *setting_arguments], capture_output=True, text=True, cwd=reworded, timeout=600
    )
    assert process.returncode == 0, process.stderr
    run = json.loads(process.stdout)
    assert run["state"] == "pushed" and run["facts"]["same_as"] == before.id
    assert set(store.stage_states(MetadataAddress.of(tmp_path), run["id"]).values()) == {"cached"}
