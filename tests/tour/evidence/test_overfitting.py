"""Overfitting on small data: produced, detected and reduced; and the report of the ablation benchmark."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn.datasets import load_digits
from support.points import draw_points
from support.tiny_case import model as tiny
from support.tiny_case.case import CASE as TINY

from benchmarks import ablation
from components.training.fit_gate import find_overfitting
from models.catalog import CASES
from models.image import model as image
from models.rows import select_rows, specs
from models.training.entry_point import measure_fit
from models.training.model_selection import refit
from tour.evidence import benchmark_reports
from tour.evidence.context import Context
from tour.evidence.result_types import NotHere, Number, Table
from tour.evidence.training import overfitting as evidence

pytestmark = pytest.mark.system


def noisy(rows: int, seed: int) -> dict[str, np.ndarray]:
    """Points of which a fifth have a wrong label, so that a network that memorizes them errs on others."""
    data = draw_points(rows, seed)
    wrong = np.random.default_rng(seed).random((rows, 1)) < 0.2
    return {**data, "above": np.where(wrong, 1 - data["above"], data["above"])}


def fit(network: Any, settings: dict[str, Any], train: dict, valid: dict, last: bool = False) -> dict[str, Any]:
    fitted = refit.fit_rows(refit.LastEpoch(network) if last else network, settings, train, valid)
    return measure_fit(network, settings, fitted.model, train, valid)


def gap(fit_record: dict[str, Any]) -> float:
    return fit_record["train"][fit_record["metric"]] - fit_record["valid"][fit_record["metric"]]


MEMORIZING = {
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
        fit(tiny, {**MEMORIZING, "max_steps": 600}, noisy(rows, seed), valid, last=True)
        for rows, seed in ((40, 1), (2000, 2))
    )
    assert gap(few) > 0.15 > 2 * gap(many)
    assert find_overfitting(few, TINY.settings["gates"]["max_gap"] / 2) and not find_overfitting(many, 0.1)


def test_last_epoch_or_best_epoch_is_kept() -> None:
    train, valid = noisy(80, 1), noisy(300, 9)
    settings = {
        **MEMORIZING,
        "epochs": 12,
        "schedule": "cosine",
    }  # plateau depends on the monitored metric, which differs
    last = refit.fit_rows(refit.LastEpoch(tiny), settings, train, valid)
    best = refit.fit_rows(tiny, settings, train, valid)
    assert last.best == len(last.curves) - 1 == 11
    assert [epoch["accuracy"] for epoch in last.curves] == pytest.approx([epoch["accuracy"] for epoch in best.curves])
    assert best.best == int(np.argmax([epoch["accuracy"] for epoch in best.curves]))


def test_the_fit_is_measured_without_dropout() -> None:
    digits = load_digits()
    rows = {
        "pixels": (digits.images[:200, ..., None] / 16).astype(np.float32),
        "label_id": digits.target[:200, None].astype(np.int64),
    }
    settings = pictures(dropout=0.9, epochs=1, filters=4)
    fitted = refit.fit_rows(image, settings, rows, rows)
    fit_record = measure_fit(image, settings, fitted.model, rows, rows)
    logits = fitted.model({"pixels": rows["pixels"]}, training=False).numpy()
    shifted = logits - logits.max(axis=1, keepdims=True)
    log = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    expected = -np.take_along_axis(log, rows["label_id"], axis=1).mean()
    assert fit_record["train"] == fit_record["valid"] and fit_record["train"]["loss"] == pytest.approx(
        expected, rel=1e-4
    )
    assert fit_record["train"]["accuracy"] == np.mean(logits.argmax(axis=1) == rows["label_id"][:, 0])


def pictures(**changes: Any) -> dict[str, Any]:
    settings = {name: value for group in CASES["image"].settings.values() for name, value in group.items()}
    return {**settings, "classes": list("0123456789"), "filters": 8, "batch_size": 10, **changes}


@pytest.mark.slow
def test_few_digits_are_learnt_by_heart_and_the_gate_tells_them_from_many() -> None:
    digits = load_digits()
    rows = {
        "pixels": (digits.images[..., None] / 16).astype(np.float32),
        "label_id": digits.target[:, None].astype(np.int64),
    }
    valid, limit = select_rows(rows, np.arange(1200, 1797)), CASES["image"].settings["gates"]["max_gap"]
    settings = pictures(epochs=24, max_steps=240)
    unregularized = {**settings, **{name: value for name, value in evidence.NOTHING.items() if name in settings}}
    few = fit(image, unregularized, select_rows(rows, np.arange(50)), valid, last=True)
    many = fit(image, {**settings, "batch_size": 64}, select_rows(rows, np.arange(1200)), valid)
    assert few["train"]["accuracy"] > 0.98 and find_overfitting(few, limit)
    assert many["valid"]["accuracy"] > few["valid"]["accuracy"] + 0.05 and not find_overfitting(many, limit)


# The benchmark and the evidence.


def test_the_ablation_changes_one_thing_at_a_time() -> None:
    settings = pictures()
    rows = {"pixels": np.zeros((4, 8, 8, 1), np.float32)}
    trainings = list(ablation.list_trainings(image, settings, specs(rows), 2))
    by_name = {name: changed for name, seed, changed in trainings if seed == 1}
    assert len(trainings) == 2 * len(by_name) and {"none", "dropout", "early stopping", "all"} <= set(by_name)
    for name, changed in by_name.items():
        differs = {key for key in changed if changed[key] != by_name["none"][key]}
        assert name == "all" or differs == set(ablation.METHODS[name])
    assert ("augmentation" in by_name) == ("augment" in settings)
    penalty = image.build({**settings, "l2": 0.1}, specs(rows)).losses
    assert ("L2" in by_name) == bool(penalty)


def test_ablation_table_has_every_method() -> None:
    figures = {name: {"mean": 0.5, "sd": 0.1} for name in ablation.FIGURES}
    report = {
        "metric": "skill",
        "rows": 10,
        "epochs": 2,
        "methods": {n: {**figures, "ratio": 1.0} for n in ("none", "all")},
        "folds": {"folds": 5, "mean": 0.5, "sd": 0.1, "valid": 0.4, "eval": 0.3},
    }
    console = Console(record=True, width=140)
    console.print(ablation.format_table("image", report))
    output = console.export_text()
    assert "none" in output and "all" in output and "0.5000 ± 0.1000" in output and "5 folds" in output


def test_ablation_report_is_consistent_and_has_no_local_paths() -> None:
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


def test_gate_refuses_an_overfitted_network_and_passes_the_run(pushed_home) -> None:
    context = Context.of(pushed_home, "image")
    # Sets a limit that the run's own gap just passes, whatever the run's limit was.
    settings = {
        **context.settings,
        "gates": {**context.settings["gates"], "max_gap": gap(context.training["fit"]) + 0.01},
    }
    facts = {**context.run.facts, "settings": json.dumps(settings)}
    results = evidence.overfitting_gate(replace(context, run=replace(context.run, facts=facts)))
    verdicts = {result.title: result.value for result in results if isinstance(result, Number)}
    assert verdicts["Gate on this run"] == "passes"
    refusal = verdicts["Gate on the network trained now"]
    assert "a gap of" in refusal and "max_gap" in refusal


def test_picture_evidence_needs_a_case_with_pictures(pushed_home) -> None:
    assert isinstance(evidence.regularization_of_images(Context.of(pushed_home, "fraud"))[0], NotHere)


@pytest.mark.parametrize("case", CASES)
def test_gap_of_the_run_matches_its_training_record(pushed_home, case: str) -> None:
    context = Context.of(pushed_home, case)
    table = evidence.overfitting_gap(context)
    fit_record = context.training["fit"]
    assert isinstance(table, Table)
    assert table.rows[2][3] == pytest.approx(gap(fit_record)) and table.rows[0][1] == fit_record["train"]["rows"]
