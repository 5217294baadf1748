"""A pushed home that was copied or moved: its runs are reused, its model is refreshed, and the original still works."""

import json
import shutil
from pathlib import Path

import pytest
from support.command import showcase
from support.pushed_home import SMALL_RUNS, format_settings, read_runs

from pipeline.home import Home
from pipeline.metadata import store

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture(scope="module")
def copy(pushed_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(pushed_home, tmp_path_factory.mktemp("copies") / "a copy")


def test_paths_of_the_copy_lie_in_the_copy_and_the_original_is_unchanged(pushed_home: Path, copy: Path) -> None:
    for home in (copy, pushed_home, copy):
        for case in SMALL_RUNS:
            (run,) = Home(home).pushed_runs(case)
            outputs = store.outputs(Home(home).metadata, run.id)
            folders = [artifact.uri for stage in outputs.values() for artifact in stage.values()]
            assert folders and all(Path(folder).is_relative_to(home) for folder in (*folders, run.source))
            assert run.pushed_folder == home / case / "versions" / "1"


@pytest.mark.parametrize("case", SMALL_RUNS)
def test_run_of_the_copy_is_reused(copy: Path, case: str, pushed_home: Path) -> None:
    result = showcase("run", case, "--home", copy, "--json", *format_settings(SMALL_RUNS[case]))
    assert result.returncode == 0, result.stdout + result.stderr
    run = json.loads(result.stdout)
    assert run["facts"]["same_as"] == read_runs(pushed_home)[case]["id"] and run["facts"]["version"] == "1"


def test_changed_run_of_the_copy_works(copy: Path) -> None:
    changes = format_settings(SMALL_RUNS["image"] | {"learning_rate": 0.0035})
    result = showcase("run", "image", "--home", copy, "--json", *changes)
    assert result.returncode == 0, result.stdout + result.stderr
    run = json.loads(result.stdout)
    assert run["facts"]["version"] == "2" and run["facts"]["pushed"] == str(copy / "image" / "versions" / "2")
