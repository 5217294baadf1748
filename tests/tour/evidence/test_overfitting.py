"""Overfitting on small data: that it is made, seen and lessened; and what the benchmark's report says of it."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn.datasets import load_digits
from support.points import points
from support.tiny_case import model as tiny
from support.tiny_case.case import CASE as TINY

from benchmarks import ablation
from components.training.fit_gate import overfitted
from models.catalog import CASES
from models.image import model as image
from models.rows import picked, specs
from models.training import refit
from models.training.entry_point import measured
from tour.evidence import benchmark_reports
from tour.evidence.context import Context
from tour.evidence.result_types import NotHere, Number, Table
from tour.evidence.training import overfitting as evidence

pytestmark = pytest.mark.system


def noisy(rows: int, seed: int) -> dict[str, np.ndarray]:
    """Points of which a fifth bear the wrong label: who knows them by heart errs on others."""
    made = points(rows, seed)
    wrong = np.random.default_rng(seed).random((rows, 1)) < 0.2
    return {**made, "above": np.where(wrong, 1 - made["above"], made["above"])}


def fit(network: Any, settings: dict[str, Any], train: dict, valid: dict, last: bool = False) -> dict[str, Any]:
    fitted = refit.fit_rows(refit.LastEpoch(network) if last else network, settings, train, valid)
    return measured(network, settings, fitted.model, train, valid)


def gap(told: dict[str, Any]) -> float:
    return told["train"][told["metric"]] - told["valid"][told["metric"]]


HEART = {
    **TINY.settings["training"],
    "width": 128,
    "epochs": 24,
    "batch_size": 8,
    "patience": 0,
    "schedule": "plateau",
}


def test_more_rows_narrow_the_gap() -> None:
    valid = noisy(1000, 9)
    few, many = (
        fit(tiny, {**HEART, "max_steps": 600}, noisy(rows, seed), valid, last=True)
        for rows, seed in ((40, 1), (2000, 2))
    )
    assert gap(few) > 0.15 > 2 * gap(many)
    assert overfitted(few, TINY.settings["gates"]["max_gap"] / 2) and not overfitted(many, 0.1)


def test_the_last_epoch_is_kept_or_the_best() -> None:
    train, valid = noisy(80, 1), noisy(300, 9)
    settings = {**HEART, "epochs": 12, "schedule": "cosine"}  # a plateau is one of the monitored metric, which differs
    last = refit.fit_rows(refit.LastEpoch(tiny), settings, train, valid)
    best = refit.fit_rows(tiny, settings, train, valid)
    assert last.best == len(last.curves) - 1 == 11
    assert [one["accuracy"] for one in last.curves] == pytest.approx([one["accuracy"] for one in best.curves])
    assert best.best == int(np.argmax([one["accuracy"] for one in best.curves]))


def test_the_fit_is_measured_without_dropout() -> None:
    digits = load_digits()
    rows = {
        "pixels": (digits.images[:200, ..., None] / 16).astype(np.float32),
        "label_id": digits.target[:200, None].astype(np.int64),
    }
    settings = pictures(dropout=0.9, epochs=1, filters=4)
    fitted = refit.fit_rows(image, settings, rows, rows)
    told = measured(image, settings, fitted.model, rows, rows)
    logits = fitted.model({"pixels": rows["pixels"]}, training=False).numpy()
    shifted = logits - logits.max(axis=1, keepdims=True)
    log = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    expected = -np.take_along_axis(log, rows["label_id"], axis=1).mean()
    assert told["train"] == told["valid"] and told["train"]["loss"] == pytest.approx(expected, rel=1e-4)
    assert told["train"]["accuracy"] == np.mean(logits.argmax(axis=1) == rows["label_id"][:, 0])


def pictures(**changes: Any) -> dict[str, Any]:
    settings = {name: value for group in CASES["image"].settings.values() for name, value in group.items()}
    return {**settings, "classes": ",".join(map(str, range(10))), "filters": 8, "batch_size": 10, **changes}


@pytest.mark.slow
def test_few_digits_are_learnt_by_heart_and_the_gate_tells_them_from_many() -> None:
    digits = load_digits()
    rows = {
        "pixels": (digits.images[..., None] / 16).astype(np.float32),
        "label_id": digits.target[:, None].astype(np.int64),
    }
    valid, limit = picked(rows, np.arange(1200, 1797)), CASES["image"].settings["gates"]["max_gap"]
    known = pictures(epochs=24, max_steps=240)
    nothing = {**known, **{name: value for name, value in evidence.NOTHING.items() if name in known}}
    few = fit(image, nothing, picked(rows, np.arange(50)), valid, last=True)
    many = fit(image, {**known, "batch_size": 64}, picked(rows, np.arange(1200)), valid)
    assert few["train"]["accuracy"] > 0.98 and overfitted(few, limit)
    assert many["valid"]["accuracy"] > few["valid"]["accuracy"] + 0.05 and not overfitted(many, limit)


# The benchmark and the evidence.


def test_the_ablation_changes_one_thing_at_a_time() -> None:
    settings = pictures()
    rows = {"pixels": np.zeros((4, 8, 8, 1), np.float32)}
    made = list(ablation.trainings(image, settings, specs(rows), 2))
    by_name = {name: told for name, seed, told in made if seed == 1}
    assert len(made) == 2 * len(by_name) and {"none", "dropout", "early stopping", "all"} <= set(by_name)
    for name, told in by_name.items():
        differs = {key for key in told if told[key] != by_name["none"][key]}
        assert name == "all" or differs == set(ablation.METHODS[name])
    assert ("augmentation" in by_name) == ("augment" in settings)
    penalty = image.build({**settings, "l2": 0.1}, specs(rows)).losses
    assert ("L2" in by_name) == bool(penalty)


def test_the_ablations_table_has_every_method() -> None:
    figures = {name: {"mean": 0.5, "sd": 0.1} for name in ablation.FIGURES}
    found = {
        "metric": "skill",
        "rows": 10,
        "epochs": 2,
        "methods": {n: {**figures, "ratio": 1.0} for n in ("none", "all")},
        "folds": {"folds": 5, "mean": 0.5, "sd": 0.1, "valid": 0.4, "eval": 0.3},
    }
    console = Console(record=True, width=140)
    console.print(ablation.table("image", found))
    said = console.export_text()
    assert "none" in said and "all" in said and "0.5000 ± 0.1000" in said and "5 folds" in said


def test_the_report_adds_up_and_names_no_place() -> None:
    report = benchmark_reports.read("ablation")
    text = json.dumps(report)
    assert report["cases"] and set(report["cases"]) <= set(CASES)
    assert "/home" not in text and "/tmp" not in text and "/work" not in text
    for case in report["cases"].values():
        none = case["methods"]["none"]
        assert none["ratio"] == 1.0 and case["date"] and case["seeds"] >= 3
        for row in case["methods"].values():
            assert row["ratio"] == pytest.approx(row["gap"]["mean"] / none["gap"]["mean"])
            assert row["gap"]["mean"] == pytest.approx(row["train"]["mean"] - row["valid"]["mean"])


def test_the_gate_catches_what_is_overfitted_now_and_lets_a_run_pass(pushed_home) -> None:
    context = Context.of(pushed_home, "image")
    # A gate that the run's own gap just passes, whatever the run's gate was.
    settings = {
        **context.settings,
        "gates": {**context.settings["gates"], "max_gap": gap(context.training["fit"]) + 0.01},
    }
    facts = {**context.run.facts, "settings": json.dumps(settings)}
    results = evidence.caught(replace(context, run=replace(context.run, facts=facts)))
    said = {result.title: result.value for result in results if isinstance(result, Number)}
    assert said["The gate on this run"] == "passes"
    assert "a gap of" in said["The gate on that network"] and "max_gap" in said["The gate on that network"]


def test_pictures_are_asked_of_a_case_that_has_them(pushed_home) -> None:
    assert isinstance(evidence.practice(Context.of(pushed_home, "fraud"))[0], NotHere)


@pytest.mark.parametrize("case", CASES)
def test_the_runs_gap_is_that_of_its_training_record(pushed_home, case: str) -> None:
    context = Context.of(pushed_home, case)
    table = evidence.gap(context)
    told = context.training["fit"]
    assert isinstance(table, Table)
    assert table.rows[2][3] == pytest.approx(gap(told)) and table.rows[0][1] == told["train"]["rows"]
