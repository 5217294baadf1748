"""A home that was copied or moved: its runs are reused or resumed, it is served and refreshed, the original still works."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from support.command import showcase, start_showcase
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


def test_copy_is_served_and_answers_traffic(copy: Path) -> None:
    ports = ("--port", 0, "--rest-port", -1, "--grpc-port", -1)
    server = start_showcase("serve", "image", "--home", copy, *ports, "--no-monitor", "--json", stdout=subprocess.PIPE)
    try:
        assert "gateway" in json.loads(server.stdout.readline())
        traffic = showcase("traffic", "image", "--home", copy, "--rate", 0, "--json")
        report = json.loads(traffic.stdout)
        assert traffic.returncode == 0 and report["sent"] > 300 and report["labels"] == report["sent"], traffic.stderr
    finally:
        server.terminate()
    assert server.wait(60) == 0


def test_refresh_of_the_copy_works(copy: Path, tmp_path: Path) -> None:
    for number in range(2):
        shutil.copytree(copy / "data" / "digits" / "span-000", tmp_path / f"span-{number:03d}")
    result = showcase("refresh", "image", "--data", tmp_path, "--home", copy, "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    assert Path(json.loads(result.stdout)["facts"]["pushed"]).parent == copy / "image" / "versions"


def test_interrupted_run_is_resumed_in_another_place(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    words = ("run", "image", "--tracking", "none", *format_settings(SMALL_RUNS["image"]))
    run = start_showcase(*words, "--home", home, stdout=subprocess.PIPE)
    lines = []
    for line in run.stdout:
        lines.append(line)
        if line.startswith("DataGate"):
            run.send_signal(signal.SIGINT)
            break
    lines += run.stdout
    assert run.wait(60) == 130 and "the same command resumes it after the last finished stage" in lines[-1], lines
    (interrupted,) = Home(home).runs("image")
    home.rename(other)
    result = showcase(*words, "--home", other, "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    resumed = json.loads(result.stdout)
    assert (interrupted.state, resumed["id"]) == ("interrupted", interrupted.id)
    assert resumed["facts"]["pushed"] == str(other / "image" / "versions" / "1")
    assert len(list((other / "image" / "artifacts" / "SpanExampleGen" / "examples").iterdir())) == 1
