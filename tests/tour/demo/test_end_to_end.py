"""The demonstration for real: child processes, traffic, monitor, retraining and swap."""

import json
import shutil
from pathlib import Path

import pytest
from support.command import showcase

from models.catalog import CASES, find

pytestmark = pytest.mark.system


@pytest.mark.slow
def test_from_pushed_models_to_a_second_version_that_is_better_after_the_drift(
    default_home: Path, tmp_path: Path
) -> None:
    """In a copy of a home whose pipelines ended with the default settings, so that they are found done."""
    shutil.copy(default_home / "metadata.sqlite", tmp_path / "metadata.sqlite")
    for case in CASES:
        shutil.copytree(default_home / case / "versions", tmp_path / case / "versions")
    (tmp_path / "data").mkdir()
    for source in (default_home / "data").iterdir():  # the same data by the same path, which is part of the fingerprint
        (tmp_path / "data" / source.name).symlink_to(source)
    done = showcase("demo", "--headless", "--home", tmp_path, "--tracking", "none", timeout=3600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    summary = json.loads(done.stdout)
    assert all(run["facts"].get("same_as") for run in summary["runs"])
    drift = summary["drift"]["fraud"]
    assert summary["failed"] == 0 and drift["run"]["state"] == "pushed" and summary["served"]["fraud"] == 2
    assert drift["metric"]["after"] > drift["metric"]["before"]
    assert set(summary["traffic"]["fraud"]["versions"]) == {"1", "2"} and summary["refused"]["state"] == "refused"
    assert find("fraud").policy.loss <= drift["decision"]["loss"]["value"]
