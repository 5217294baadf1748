"""Listing, choosing and comparing runs; reproducible training; DVC files."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.built_case import BuiltCase, get_built_case
from support.in_process import run_in_process

from cli import dvc_files
from models.catalog import CASES
from models.training.weight_digests import saved_weights_digest
from pipeline.home import Home
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.run import Run
from pipeline.tracking import comparison
from tour.evidence import experiment_tracking as evidence
from tour.evidence import result_types
from tour.evidence.context import Context

pytestmark = pytest.mark.system

SETTINGS = {"data": {}, "training": {"seed": 1, "strategy": "none"}}


def save_run(home: Path, id_: str, case: str = "fraud", state: str = "pushed", **facts: str) -> Run:
    settings = json.dumps({**SETTINGS, "training": {**SETTINGS["training"], "seed": len(id_)}})
    base = {
        "started": "2026-01-02T03:04:05+00:00",
        "source": "/raw",
        "spans": "0:9",
        "data_version": "d1",
        "settings": settings,
        "commit": "abc",
        "metrics": '{"pr_auc": 0.5}',
        "headline": "pr_auc 0.5",
    }
    run = Run(id_, case, state, "for a reason", "f", base | facts)
    store.save(Home(home).metadata, run)
    return run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    save_run(tmp_path, "fraud-1")
    save_run(tmp_path, "fraud-21", metrics='{"pr_auc": 0.75, "recall": 0.1}', data_version="d2")
    save_run(tmp_path, "image-3", case="image", state="refused")
    save_run(tmp_path, "fraud-4", same_as="fraud-21")
    return tmp_path


def test_runs_are_chosen_by_two_ids_one_id_or_none(home: Path) -> None:
    rows = comparison.list_runs(local_runtime(home))
    assert [row.id for row in rows] == ["fraud-1", "fraud-21", "image-3", "fraud-4"]

    def choose(*ids: str, rows: list[comparison.RunRow] = rows) -> tuple[str, ...]:
        return tuple(row.id for row in comparison.choose_runs(rows, ids))

    assert choose("21", "image-3") == ("fraud-21", "image-3")
    assert choose("21") == ("fraud-1", "fraud-21")  # of the same case, before it
    assert choose("fraud-4") == ("fraud-21", "fraud-4")  # a cached run is chosen if it is named
    assert choose(rows=rows[:2] + rows[3:]) == ("fraud-1", "fraud-21")
    assert choose("d-1", "4") == ("fraud-1", "fraud-4")


@pytest.mark.parametrize(
    ("ids", "error"),
    [
        (["nothing"], "There is no run 'nothing'"),
        (["1", "4"], r"'1' is the end of 2 runs \(fraud-1, fraud-21\)"),
        (["image-3"], "no two runs of one case"),
        (["21", "4", "3"], "two runs, not 3"),
    ],
)
def test_ids_that_do_not_match_two_runs_are_errors(home: Path, ids: list[str], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        comparison.choose_runs(comparison.list_runs(local_runtime(home)), ids)
    result = run_in_process("runs", *ids, "--home", home)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1


def test_comparison_has_changed_parameters_and_metric_differences(home: Path) -> None:
    result = run_in_process("runs", "fraud", "d-1", "21", "--json", "--home", home)
    assert result.returncode == 0, result.stderr
    difference = json.loads(result.stdout)
    assert ["data.version", "d1", "d2"] in difference["facts"] and ["commit", "abc", "abc"] in difference["facts"]
    assert difference["params"] == [["seed", "7", "8"]]  # not the strategy, which is equal
    assert difference["metrics"] == [["pr_auc", 0.5, 0.75, 0.25], ["recall", None, 0.1, None]]
    listed = json.loads(run_in_process("runs", "image", "--json", "--home", home).stdout)
    assert [(row["id"], row["state"], row["spans"]) for row in listed] == [("image-3", "refused", "0:9")]


def test_list_shows_every_run_and_the_mlflow_address(home: Path) -> None:
    result = run_in_process("runs", "--home", home)
    assert all(name in result.stdout for name in ("fraud-1", "fraud-21", "image-3", "refused", "pushed (cached)"))
    assert f"sqlite:///{home}/mlflow.sqlite" in result.stdout
    mlflow_result = run_in_process("runs", "--mlflow", "--home", home)
    assert mlflow_result.returncode == 2 and "There is no tracking store" in mlflow_result.stderr


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> BuiltCase:
    return get_built_case(CASES["image"], tmp_path_factory)


def test_trained_again_with_the_same_seed_the_weights_are_equal_to_the_bit(done: BuiltCase) -> None:
    network = done.case.load("model")
    features = {name: _spec(done.rows[name]) for name in network.INPUTS}

    def digest(seed: int) -> str:
        return evidence.run_trial(network, done.settings, features, done.rows, seed, True).digest

    first = digest(1)
    assert first == digest(1) != digest(2)
    assert not evidence.framework.is_op_determinism_enabled()


def _spec(values) -> "evidence.tf.TensorSpec":
    return evidence.tf.TensorSpec([None, *values.shape[1:]], values.dtype)


@pytest.mark.slow
def test_evidence_uses_the_demos_runs(pushed_home: Path) -> None:
    context = Context.of(pushed_home, "image")
    results = evidence.compare_runs(context)
    records = next(
        result
        for result in results
        if isinstance(result, result_types.Table) and result.title == "Runs recorded in MLflow"
    )
    uncached = [run.id for case in CASES for run in store.runs(context.metadata, case) if "same_as" not in run.facts]
    assert sorted(row[0] for row in records.rows) == sorted(uncached)
    assert any(isinstance(result, result_types.Table) and result.title == "Two runs compared" for result in results)
    recorded = [(epoch, curve["loss"]) for epoch, curve in enumerate(context.training["curves"], 1)]
    line = next(result for result in results if isinstance(result, result_types.Series)).lines["loss"]
    assert np.array(line) == pytest.approx(np.array(recorded))
    facts, hashes, trials, cost = evidence.reproducibility(context)
    assert ("data version (content digest)", context.run.facts["data_version"]) in facts.rows
    assert hashes.rows[1][1] == saved_weights_digest(context.served)
    assert "Same seed: equal weights; other seed: different weights" in trials.title and cost.value > 0


def write_tree(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot", ".b")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_dvc_writes_the_file_and_compares_the_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(dvc_files, "find_program", lambda: "dvc")
    folder = write_tree(tmp_path / "spans" / "data", span__a="one")
    (tmp_path / ".dvc").mkdir()
    calls = []

    def answer(status: dict) -> dvc_files.Run:
        def run(command: list[str], cwd: Path, **_: object) -> subprocess.CompletedProcess:
            calls.append((command, cwd))
            return subprocess.CompletedProcess(command, 0, json.dumps(status), "")

        return run

    with pytest.raises(OSError, match="There is no .*data.dvc to compare with: write it with `showcase dvc"):
        dvc_files.is_changed(folder, answer({}))
    assert dvc_files.write(folder, answer({})) == tmp_path / "spans" / "data.dvc"
    assert calls == [(["dvc", "add", "--no-commit", "data"], tmp_path / "spans")]
    (tmp_path / "spans" / "data.dvc").touch()
    # Answers of `dvc data status --json` of DVC 3.67: paths are relative to the root of the repository.
    unchanged = {"not_in_cache": ["spans/data/"], "committed": {"added": ["spans/data/"]}}
    assert not dvc_files.is_changed(folder, answer(unchanged))
    assert not dvc_files.is_changed(folder, answer({**unchanged, "uncommitted": {"modified": ["data/"]}}))
    assert dvc_files.is_changed(folder, answer({**unchanged, "uncommitted": {"modified": ["spans/data/"]}}))


def test_missing_dvc_repository_or_folder_is_an_error(tmp_path: Path, monkeypatch) -> None:
    folder = write_tree(tmp_path / "data", a="1")
    monkeypatch.setattr(dvc_files, "find_program", lambda: None)
    with pytest.raises(OSError, match="DVC is not installed"):
        dvc_files.write(folder)
    monkeypatch.setattr(dvc_files, "find_program", lambda: "dvc")
    stderr = "ERROR: you are not inside of a DVC repository (checked up to mount point '/')\n"
    with pytest.raises(OSError, match="refused .*: you are not inside of a DVC repository"):
        dvc_files.write(folder, lambda *_, **__: subprocess.CompletedProcess([], 253, "", stderr))
    with pytest.raises(OSError, match="There is no folder"):
        dvc_files.write(tmp_path / "none")
