"""The Trainer's entry point: its outputs, resumption of a killed attempt, and reproducible weights."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.built_case import get_built_case
from support.command import ROOT
from support.small_jobs import load_weights, small_job
from support.tiny_case.case import CASE as TINY

from models import catalog
from models.training import entry_point
from models.training.distribute import cluster
from models.training.distribute.job import TrainingJob
from models.training.weight_digests import saved_weights_digest

pytestmark = pytest.mark.system

# At this rate the best epoch is not the last, and its weights are not those of the last.
SETTINGS = {"epochs": 5, "patience": 0, "learning_rate": 0.3, "optimizer": "sgd", "profile": False}


@pytest.fixture
def create_fn_args(tmp_path, tmp_path_factory, monkeypatch):
    """A function that creates the arguments of ``run_fn`` for one attempt on the tiny case."""
    monkeypatch.setitem(catalog.CASES, TINY.name, TINY)
    case = get_built_case(TINY, tmp_path_factory)

    def make(attempt: int = 1, **changes) -> SimpleNamespace:
        return SimpleNamespace(
            custom_config={"case": TINY.name, "settings": {**case.settings, **SETTINGS, **changes}},
            hyperparameters=None,
            transform_graph_path=str(case.graph),
            train_files=[str(case.examples / "Split-train" / "*")],
            serving_model_dir=str(tmp_path / "model" / str(attempt) / "Format-Serving"),
            model_run_dir=str(tmp_path / "Trainer" / "model_run" / str(attempt)),
        )

    return make


def record(attempt: SimpleNamespace) -> dict:
    return json.loads(Path(attempt.model_run_dir, "training.json").read_text())


def check_complete(attempt: SimpleNamespace) -> None:
    """Check that the attempt has written a record, the best weights' export and event files, and left no scratch folder."""
    contents = record(attempt)
    assert contents["weights"] == saved_weights_digest(Path(attempt.serving_model_dir))
    assert contents["steps"] == len(contents["curves"]) * (contents["rows"] // contents["batch_size"])
    assert contents["trainable"] <= contents["parameters"] and contents["fit"]["train"]["rows"] <= contents["rows"]
    best, last = contents["curves"][contents["best_epoch"]], contents["curves"][-1]
    assert best["accuracy"] == max(curve["accuracy"] for curve in contents["curves"])
    assert contents["fit"]["valid"]["loss"] == pytest.approx(best["valid_loss"], abs=1e-5)
    assert best["valid_loss"] != pytest.approx(last["valid_loss"], rel=0.01)  # so that the test distinguishes them
    assert "folds" not in contents  # not configured
    assert list(Path(attempt.model_run_dir, "logs").rglob("events.*"))
    assert not list(Path(attempt.model_run_dir).parents[1].joinpath("training").iterdir())


def test_killed_attempt_is_resumed_and_finished_one_is_not(create_fn_args, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        patched.setattr(entry_point, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            entry_point.run_fn(create_fn_args(1))
    outputs = []
    for attempt in (2, 3):
        capsys.readouterr()
        entry_point.run_fn(create_fn_args(attempt))
        outputs.append(capsys.readouterr().out)
        check_complete(create_fn_args(attempt))
    assert "went on at step" in outputs[0] and "epoch 1/" not in outputs[0]
    assert "went on at step" not in outputs[1] and "epoch 1/" in outputs[1]
    assert [entry["callback"] for entry in record(create_fn_args(2))["journal"]].count("checkpoint") == 1


def test_other_settings_have_another_scratch_folder(create_fn_args):
    jobs = [TrainingJob.of(create_fn_args(**changes)) for changes in ({}, {}, {"l2": 0.1})]
    assert jobs[0].folder == jobs[1].folder != jobs[2].folder


def test_cluster_gets_transformed_splits_and_its_weights_are_exported(create_fn_args, monkeypatch):
    launched = []

    def run(job: TrainingJob) -> None:
        stored, read = entry_point.TrainingData.from_store(job), entry_point.TrainingData.of(job)
        assert stored.keep == read.keep and stored.graph is None
        assert {name: read.features[name] for name in read.keep} == stored.features
        assert all((stored.valid[name] == read.valid[name]).all() for name in read.keep)
        train = [entry_point._create_feed(replace(job, spec=spec), read) for spec in (job.spec, None)]
        assert train[0][0] == train[1][0]
        for batch, expected in zip(train[0][1](3).take(8), train[1][1](3).take(8), strict=True):
            assert all((batch[name].numpy() == expected[name].numpy()).all() for name in read.keep)
        launched.append(job.settings["strategy"])
        entry_point.train(replace(job, settings={**job.settings, "strategy": "none"}))

    monkeypatch.setattr(cluster, "run", run)
    entry_point.run_fn(create_fn_args(strategy="multiworker"))
    assert launched == ["multiworker"]
    check_complete(create_fn_args())


# Deterministic operations cannot be turned off again within a process.
TRAIN = """
import sys
from pathlib import Path
from models.training import entry_point
for path in sys.argv[1:]:
    entry_point.train(entry_point.TrainingJob.read(Path(path)))
"""


@pytest.mark.slow
def test_two_processes_with_one_seed_end_with_the_same_bits(tmp_path):
    changes = {"deterministic": True, "past_encoder": "gru", "dropout": 0.3}
    jobs = {
        name: small_job(tmp_path / name, seed=seed, **changes) for name, seed in (("one", 1), ("two", 1), ("other", 2))
    }
    for names in (("one", "other"), ("two",)):
        paths = [str(jobs[name].save(tmp_path / f"{name}.json")) for name in names]
        subprocess.run([sys.executable, "-c", TRAIN, *paths], check=True, capture_output=True, cwd=ROOT)
    first, second, other = (load_weights(jobs[name]) for name in ("one", "two", "other"))
    assert first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)
