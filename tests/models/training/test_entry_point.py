"""The Trainer's entry point: what it leaves, what it takes up again, and the same bits twice."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.built_case import built
from support.command import ROOT
from support.small_jobs import small_job, weights
from support.tiny_case.case import CASE as TINY

from models import catalog
from models.training import entry_point
from models.training.distribute import cluster
from models.training.distribute.job import Job
from models.training.weight_digests import saved_weights_digest

pytestmark = pytest.mark.system

# At this rate the best epoch is not the last, and its weights are not those of the last.
SETTINGS = {"epochs": 5, "patience": 0, "learning_rate": 0.3, "optimizer": "sgd", "profile": False}


@pytest.fixture
def told(tmp_path, tmp_path_factory, monkeypatch):
    """A function that makes what the Trainer tells ``run_fn`` in one attempt, on the tiny case."""
    monkeypatch.setitem(catalog.CASES, TINY.name, TINY)
    case = built(TINY, tmp_path_factory)

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


def complete(attempt: SimpleNamespace) -> None:
    """Fails unless the attempt has left a record, an export of the best weights and event files, and no scratch."""
    found = record(attempt)
    assert found["weights"] == saved_weights_digest(Path(attempt.serving_model_dir))
    assert found["steps"] == len(found["curves"]) * (found["rows"] // found["batch_size"])
    assert found["trainable"] <= found["parameters"] and found["fit"]["train"]["rows"] <= found["rows"]
    best, last = found["curves"][found["best_epoch"]], found["curves"][-1]
    assert best["accuracy"] == max(curve["accuracy"] for curve in found["curves"])
    assert found["fit"]["valid"]["loss"] == pytest.approx(best["valid_loss"], abs=1e-5)
    assert best["valid_loss"] != pytest.approx(last["valid_loss"], rel=0.01)  # or either could have been exported
    assert "folds" not in found  # which were not asked for
    assert list(Path(attempt.model_run_dir, "logs").rglob("events.*"))
    assert not list(Path(attempt.model_run_dir).parents[1].joinpath("training").iterdir())


def test_a_killed_attempt_is_gone_on_with_and_a_finished_one_is_not(told, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        patched.setattr(entry_point, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            entry_point.run_fn(told(1))
    said = []
    for attempt in (2, 3):
        capsys.readouterr()
        entry_point.run_fn(told(attempt))
        said.append(capsys.readouterr().out)
        complete(told(attempt))
    assert "went on at step" in said[0] and "epoch 1/" not in said[0]
    assert "went on at step" not in said[1] and "epoch 1/" in said[1]
    assert [entry["callback"] for entry in record(told(2))["journal"]].count("checkpoint") == 1


def test_other_settings_have_another_scratch_folder(told):
    jobs = [Job.of(told(**changes)) for changes in ({}, {}, {"l2": 0.1})]
    assert jobs[0].folder == jobs[1].folder != jobs[2].folder


def test_a_cluster_gets_both_splits_transformed_and_the_export_is_made_of_what_it_has_learnt(told, monkeypatch):
    launched = []

    def run(job: Job) -> None:
        stored, read = entry_point.Data.stored(job), entry_point.Data.of(job)
        assert stored.keep == read.keep and stored.graph is None
        assert {name: read.features[name] for name in read.keep} == stored.features
        assert all((stored.valid[name] == read.valid[name]).all() for name in read.keep)
        train = [entry_point._feed(replace(job, spec=spec), read) for spec in (job.spec, None)]
        assert train[0][0] == train[1][0]
        for one, other in zip(train[0][1](3).take(8), train[1][1](3).take(8), strict=True):
            assert all((one[name].numpy() == other[name].numpy()).all() for name in read.keep)
        launched.append(job.settings["strategy"])
        entry_point.train(replace(job, settings={**job.settings, "strategy": "none"}))

    monkeypatch.setattr(cluster, "run", run)
    entry_point.run_fn(told(strategy="multiworker"))
    assert launched == ["multiworker"]
    complete(told())


# Deterministic operations cannot be turned off again within a process.
TRAIN = """
import sys
from pathlib import Path
from models import training
for path in sys.argv[1:]:
    training.train(training.Job.read(Path(path)))
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
    one, two, other = (weights(jobs[name]) for name in ("one", "two", "other"))
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)
    assert any(not np.array_equal(one[name], other[name]) for name in one)
