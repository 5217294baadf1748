"""The real demonstration: child processes, traffic, monitor, retraining and swap."""

import json
import shutil
from pathlib import Path

import pytest
from support.command import showcase

from models.catalog import CASES, find_use_case

pytestmark = pytest.mark.system


@pytest.mark.slow
def test_drift_leads_to_a_second_version_with_a_better_metric(default_home: Path, tmp_path: Path) -> None:
    """In a copy of a home whose pipelines ran with the default settings, so that their runs are cached."""
    shutil.copy(default_home / "metadata.sqlite", tmp_path / "metadata.sqlite")
    for case in CASES:
        shutil.copytree(default_home / case / "versions", tmp_path / case / "versions")
    (tmp_path / "data").mkdir()
    for source in (default_home / "data").iterdir():  # same data, same path: it is part of the fingerprint
        (tmp_path / "data" / source.name).symlink_to(source)
    result = showcase("demo", "--headless", "--home", tmp_path, "--tracking", "none", timeout=3600)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    summary = json.loads(result.stdout)
    assert all(run["facts"].get("same_as") for run in summary["runs"])
    drift = summary["drift"]["fraud"]
    assert summary["failed"] == 0 and drift["run"]["state"] == "pushed" and summary["served"]["fraud"] == 2
    assert drift["metric"]["after"] > drift["metric"]["before"]
    assert set(summary["traffic"]["fraud"]["versions"]) == {"1", "2"} and summary["refused"]["state"] == "refused"
    assert find_use_case("fraud").policy.loss <= drift["decision"]["loss"]["value"]
