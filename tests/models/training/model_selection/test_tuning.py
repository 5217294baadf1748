"""The Tuner: its trials, its best values, and that the Trainer uses them."""

import json
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from support.built_case import get_built_case
from support.command import showcase
from support.points import draw_points
from support.tiny_case import model as tiny
from support.tiny_case.case import CASE as TINY
from tfx.proto import trainer_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from components.training.tuner import Executor
from models import catalog
from models.catalog import CASES
from models.default_settings import OPTIMIZERS
from models.rows import sample
from models.training import entry_point
from models.training.model_selection import tuning
from models.use_case import UseCase
from pipeline.plan import Plan, RunRequest, search_space
from tour.evidence import overview
from tour.evidence.training import optimizer_comparison as evidence

pytestmark = pytest.mark.system

SETTINGS = {**TINY.settings["training"], "epochs": 2, "width": 16, "patience": 9, "tune_steps": 40, "tune_trials": 7}
BAD = 1e-6
SPACE = {"optimizer": ("adam", "sgd"), "learning_rate": {"low": BAD, "high": 0.1}}


def run_search(folder: Path, space: dict = SPACE, **changes: Any) -> tuning.Search:
    search = tuning.Search(tiny, {**SETTINGS, "learning_rate": BAD, **changes}, space, str(folder))
    search.search(train=draw_points(400, 1), valid=draw_points(200, 2))
    return search


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> tuning.Search:
    return run_search(tmp_path_factory.mktemp("search"))


def test_the_search_finds_a_better_rate_than_a_bad_default(search: tuning.Search) -> None:
    best = search.get_best_hyperparameters()[0].values
    assert best == search.best()["settings"] and best["learning_rate"] > 100 * BAD
    untuned = [trial["score"] for trial in search.trials if trial["settings"]["learning_rate"] == pytest.approx(BAD)]
    assert untuned and search.best()["score"] > max(untuned) + 0.05


def test_every_optimizer_is_tried_at_every_planned_rate_and_the_rest_is_chosen(search: tuning.Search) -> None:
    pairs = [
        (trial["settings"]["optimizer"], round(float(np.log10(trial["settings"]["learning_rate"])), 2))
        for trial in search.trials
    ]
    assert len(pairs) == SETTINGS["tune_trials"] == 7
    assert pairs[:2] == [("adam", -3.5), ("sgd", -3.5)]
    assert set(pairs[:6]) == {(name, rate) for name in ("adam", "sgd") for rate in (-6.0, -3.5, -1.0)}
    assert all(trial["curves"] and trial["seconds"] > 0 and not trial["error"] for trial in search.trials)
    assert all({"loss", "valid_loss", "accuracy"} <= set(trial["curves"][0]) for trial in search.trials)


def test_the_same_seed_makes_the_same_search(
    search: tuning.Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first and the last trial are trained again; the search gets the recorded results of the others."""
    fit_rows, recorded = tuning.fit_rows, iter(search.trials)

    def replay(network: Any, settings: dict, *rest: Any) -> Any:
        trial = next(recorded)
        if trial in (search.trials[0], search.trials[-1]):
            return fit_rows(network, settings, *rest)
        return types.SimpleNamespace(curves=trial["curves"])

    monkeypatch.setattr(tuning, "fit_rows", replay)
    again = run_search(tmp_path)
    assert [(trial["settings"], trial["score"]) for trial in again.trials] == [
        (trial["settings"], trial["score"]) for trial in search.trials
    ]


def test_a_trial_takes_no_more_steps_than_the_budget_or_the_run(tmp_path: Path) -> None:
    few = run_search(tmp_path / "few", {"optimizer": ("adam",)}, tune_trials=1, tune_steps=7, epochs=4)
    run = run_search(tmp_path / "run", {"optimizer": ("adam",)}, tune_trials=1, max_steps=13, epochs=4)
    assert len(few.trials[0]["curves"]) == 2 and len(run.trials[0]["curves"]) == 3  # six steps an epoch


def test_failed_trial_scores_worst_and_the_search_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fragile(network: Any, settings: dict, *rest: Any) -> Any:
        if settings["optimizer"] == "sgd":
            raise RuntimeError("no such kernel")
        loss = float("nan") if settings["learning_rate"] > 0.01 else 0.5
        return types.SimpleNamespace(curves=[{"loss": 1.0, "accuracy": 0.5}, {"loss": loss, "accuracy": 0.6}])

    monkeypatch.setattr(tuning, "fit_rows", fragile)
    search = run_search(tmp_path)
    failed = [trial for trial in search.trials if trial["error"]]
    assert len(search.trials) == 7 and len(failed) >= 4
    assert all(trial["score"] == tuning.FAILED_SCORE for trial in failed)
    assert {"RuntimeError: no such kernel", "the loss is no longer a number"} == {trial["error"] for trial in failed}
    best = search.get_best_hyperparameters()[0].values
    assert best["optimizer"] == "adam" and best["learning_rate"] <= 0.01
    search.save_report(tmp_path)
    json.loads((tmp_path / "curves.json").read_text(), parse_constant=lambda word: pytest.fail(f"{word} in JSON"))


def test_search_without_a_successful_trial_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "fit_rows", lambda *_: (_ for _ in ()).throw(RuntimeError("no memory")))
    with pytest.raises(ValueError, match="None of the 7 trials could be trained.*no memory"):
        run_search(tmp_path).best()


@pytest.mark.parametrize("case", (*CASES.values(), TINY), ids=lambda case: case.name)
def test_search_space_names_training_settings_and_contains_the_defaults(case: UseCase) -> None:
    settings = case.settings["training"]
    assert case.space and set(case.space) <= set(settings)
    parameters = tuning.build_search_space(case.space, settings)
    assert parameters.values == {name: settings[name] for name in case.space}
    trials = tuning.plan_trials(case.space, settings)
    assert len(trials) == len(OPTIMIZERS) * tuning.RATES
    assert {trial["optimizer"] for trial in trials[: len(OPTIMIZERS)]} == set(OPTIMIZERS)


def test_sample_is_uniform_and_keeps_rows_whole() -> None:
    batches = [{"a": np.arange(s, s + 50), "b": np.arange(s, s + 50)[:, None] * 2} for s in range(0, 1000, 50)]
    counts = np.zeros(1000)
    for seed in range(200):
        sampled = sample(batches, 100, seed)
        assert (
            len(sampled["a"]) == 100
            and (sampled["b"][:, 0] == 2 * sampled["a"]).all()
            and (np.diff(sampled["a"]) > 0).all()
        )
        counts[sampled["a"]] += 1
    halves = counts[:500].sum(), counts[500:].sum()
    assert abs(halves[0] - halves[1]) < 0.05 * sum(halves) and counts.max() < 45 and counts.min() > 3
    assert len(sample(batches, 5000, 1)["a"]) == 1000
    with pytest.raises(ValueError, match="the split is empty"):
        sample([], 5, 1)


# The Tuner in TFX.


@pytest.mark.slow
def test_trainer_uses_the_tuners_best_values(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_run = get_built_case(TINY, tmp_path_factory)
    monkeypatch.setitem(catalog.CASES, TINY.name, TINY)
    settings = {**small_run.settings, "learning_rate": BAD, "tune_trials": 3, "tune_steps": 20, "epochs": 3}
    artifacts = [
        kind()
        for kind in (
            standard_artifacts.Examples,
            standard_artifacts.TransformGraph,
            standard_artifacts.HyperParameters,
            standard_artifacts.TunerResults,
        )
    ]
    folders = (small_run.examples, small_run.graph, tmp_path / "best", tmp_path / "results")
    for artifact, folder in zip(artifacts, folders, strict=True):
        folder.mkdir(exist_ok=True)
        artifact.uri = str(folder)
    examples, transform, best, results = artifacts
    examples.split_names = json.dumps(["train", "valid", "eval"])
    properties = {
        "tuner_fn": "models.training.model_selection.tuning.tuner_fn",
        "train_args": proto_utils.proto_to_json(trainer_pb2.TrainArgs(splits=["train"])),
        "eval_args": proto_utils.proto_to_json(trainer_pb2.EvalArgs(splits=["valid"])),
        "custom_config": json.dumps({"case": TINY.name, "settings": settings, "space": dict(SPACE)}),
    }
    executor = Executor(Executor.Context(tmp_dir=str(tmp_path / "scratch"), unique_id="1"))
    inputs = {"examples": [examples], "transform_graph": [transform]}
    executor.Do(inputs, {"best_hyperparameters": [best], "tuner_results": [results]}, properties)
    report = json.loads((tmp_path / "results" / "curves.json").read_text())
    (file,) = (tmp_path / "best").iterdir()
    hyperparameters = json.loads(file.read_text())
    assert hyperparameters["values"] == report["best"] and len(report["trials"]) == 3
    trainer = types.SimpleNamespace(
        custom_config={"case": TINY.name, "settings": settings},
        hyperparameters=hyperparameters,
        transform_graph_path=str(small_run.graph),
        train_files=[str(small_run.examples / "Split-train" / "*")],
        serving_model_dir=str(tmp_path / "model"),
        model_run_dir=str(tmp_path / "run"),
    )
    entry_point.run_fn(trainer)
    used = json.loads((tmp_path / "run" / "training.json").read_text())["settings"]
    assert used == {**settings, **report["best"]} and used["learning_rate"] > BAD


def plan(**changes: Any) -> Plan:
    case = CASES["image"]
    return Plan(case, "/raw", 0, 1, case.configure({}), "", "/versions", "", **changes)


def test_graph_has_a_tuner_only_if_requested() -> None:
    plain, _ = overview.build_graph(plan())
    tuned, edges = overview.build_graph(plan(space={"learning_rate": {"low": 0.1, "high": 1}}))
    assert set(tuned) - set(plain) == {"Tuner"}
    assert {("Tuner", "Trainer"), ("DataGate", "Tuner"), ("Transform", "Tuner")} <= set(edges)
    assert plan().fingerprint() != plan(space=dict(TINY.space)).fingerprint()


def test_settings_given_by_the_user_are_not_tuned() -> None:
    request = RunRequest(CASES["image"], changes={"learning_rate": "0.1", "epochs": "1"}, tune=True)
    assert set(search_space(request)) == set(CASES["image"].space) - {"learning_rate"}
    everything = RunRequest(CASES["image"], changes=dict.fromkeys(CASES["image"].space, "1"), tune=True)
    with pytest.raises(ValueError, match="nothing to tune"):
        search_space(everything)


@pytest.mark.slow
def test_a_run_that_tunes_trains_with_the_best_values(tmp_path: Path) -> None:
    words = ["--set", "tune_trials=5", "--set", "tune_steps=20", "--set", "epochs=6", "--set", "min_accuracy=0.1"]
    words += ["--set", "min_class_accuracy=0"]
    ended = showcase("run", "image", "--tune", *words, "--home", tmp_path, "--json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (report,) = tmp_path.glob("image/artifacts/Tuner/tuner_results/*/curves.json")
    (record,) = tmp_path.glob("image/artifacts/Trainer/model_run/*/training.json")
    best, used = json.loads(report.read_text())["best"], json.loads(record.read_text())["settings"]
    assert best.items() <= used.items()


# The evidence on optimizers.


def test_the_rate_matters_more_than_the_optimizer() -> None:
    tried = evidence.compare_optimizers(tiny, SETTINGS, draw_points(1000, 3))
    assert {trial.optimizer for trial in tried} == set(OPTIMIZERS) and len(tried) == 15
    over_rates, over_optimizers = evidence.spreads(tried)
    assert over_rates > 1.5 * over_optimizers
    assert all(min(trial.outcome for trial in tried if trial.optimizer == name) < 0.3 for name in OPTIMIZERS)


def test_optimizers_step_as_their_papers_say() -> None:
    """One step on one weight with gradient 1, computed by hand for each update rule at the same rate."""
    from models.training import optimizers

    moved = {}
    for name in OPTIMIZERS:
        weight = tf.Variable([1.0])
        settings = {"optimizer": name, "learning_rate": 0.1, "schedule": "plateau", "weight_decay": 0.5}
        optimizer = optimizers.create(settings, 1)
        optimizer.build([weight])
        optimizer.apply([tf.constant([1.0])], [weight])
        moved[name] = 1.0 - float(weight.numpy()[0])
    expected = {
        "sgd": 0.1 * 1.9,
        "adam": 0.1,
        "adamw": 0.1 + 0.1 * 0.5,
        "rmsprop": 0.1 / np.sqrt(0.1),
        "adagrad": 0.1 / np.sqrt(0.1 + 1),
    }
    assert moved == pytest.approx(expected, rel=1e-3)


def test_the_tuners_trials_are_compared_where_only_optimizer_and_rate_differ(search: tuning.Search) -> None:
    report = {"metric": "accuracy", "trials": search.trials, "best": search.best()["settings"]}
    tried = evidence.read_tuner_trials(report)
    assert len(tried) == 7 and min(trial.outcome for trial in tried) == pytest.approx(1 - search.best()["score"])
    other = {**search.trials[0], "settings": {**search.trials[0]["settings"], "width": 1}}
    assert len(evidence.read_tuner_trials({**report, "trials": [*search.trials, other]})) == 7
