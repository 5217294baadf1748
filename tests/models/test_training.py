"""The Trainer's entry point: what it leaves, what it takes up again, and the same bits twice."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.built_case import built

from models import training
from models.catalog import find
from models.digests import saved_weights_digest

RUN = """
import json, sys
from types import SimpleNamespace
from models import training
training.run_fn(SimpleNamespace(**json.loads(sys.argv[1])))
"""


@pytest.fixture(scope="session")
def told(tmp_path_factory):
    """A function that makes what the Trainer tells ``run_fn``, on small fraud data."""
    case = built(find("fraud"), tmp_path_factory)

    def make(folder: Path, **changes) -> dict:
        return {
            "custom_config": {"case": "fraud", "settings": {**case.settings, "epochs": 3, "profile": False, **changes}},
            "hyperparameters": None,
            "transform_graph_path": str(case.graph),
            "train_files": [str(case.examples / "Split-train" / "*")],
            "serving_model_dir": str(folder / "model/1/Format-Serving"),
            "model_run_dir": str(folder / "Trainer/model_run/1"),
        }

    return make


def test_it_leaves_an_export_a_record_and_no_scratch(told, tmp_path):
    told = told(tmp_path)
    training.run_fn(SimpleNamespace(**told))
    record = json.loads(Path(told["model_run_dir"], "training.json").read_text())
    assert record["weights"] == saved_weights_digest(Path(told["serving_model_dir"]))
    assert record["steps"] == len(record["curves"]) * (record["rows"] // record["batch_size"])
    assert record["trainable"] <= record["parameters"] and record["fit"]["train"]["rows"] <= record["rows"]
    assert list(Path(told["model_run_dir"], "logs").rglob("events.*"))
    assert not list((tmp_path / "Trainer" / "training").iterdir())


def test_a_killed_attempt_is_gone_on_with_and_a_finished_one_is_not(told, tmp_path, monkeypatch, capsys):
    told = told(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(training, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            training.run_fn(SimpleNamespace(**told))
    said = []
    for attempt in ("2", "3"):
        capsys.readouterr()
        training.run_fn(SimpleNamespace(**{**told, "model_run_dir": str(tmp_path / "Trainer/model_run" / attempt)}))
        said.append(capsys.readouterr().out)
    assert "went on at step" in said[0] and "epoch 1/" not in said[0]
    assert "went on at step" not in said[1] and "epoch 1/" in said[1]


def test_other_settings_have_another_scratch_folder(told, tmp_path):
    jobs = [training.Job.of(SimpleNamespace(**told(tmp_path, **changes))) for changes in ({}, {}, {"l2": 0.1})]
    assert jobs[0].folder == jobs[1].folder != jobs[2].folder


@pytest.mark.slow
def test_two_processes_with_one_seed_end_with_the_same_bits(told, tmp_path):
    digests = []
    for name, seed in (("one", 1), ("two", 1), ("other", 2)):
        given = told(tmp_path / name, seed=seed, deterministic=True, tensorboard=False)
        command = [sys.executable, "-c", RUN, json.dumps(given)]
        subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[2])
        digests.append(json.loads(Path(given["model_run_dir"], "training.json").read_text())["weights"])
    assert digests[0] == digests[1] != digests[2]


def test_the_best_weights_are_those_that_are_exported(told, tmp_path):
    told = told(tmp_path, epochs=4, patience=0, learning_rate=0.05)
    training.run_fn(SimpleNamespace(**told))
    record = json.loads(Path(told["model_run_dir"], "training.json").read_text())
    best = max(curve["pr_auc"] for curve in record["curves"])
    assert record["valid"]["pr_auc"] == pytest.approx(best, abs=1e-6)
    assert record["curves"][record["best_epoch"]]["pr_auc"] == best
