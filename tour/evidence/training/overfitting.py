"""Evidence on overfitting: the run's curves and gap, the measured effect of each countermeasure, and small trainings now."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from components.training.fit_gate import find_overfitting
from models.rows import Rows, sample
from models.training.entry_point import measure_fit
from models.training.model_selection.refit import LastEpoch, fit_rows
from tour.evidence import benchmark_reports
from tour.evidence.context import Context, explain_missing_pictures
from tour.evidence.result_types import Number, Result, Series, Table
from tour.evidence.training import trainer_output

POOL, VALID, RAREST, STEPS = 8192, 4096, 8, 120
# Settings without any countermeasure against overfitting, and with a moderate amount of each.
NOTHING = {"dropout": 0.0, "l2": 0.0, "weight_decay": 0.0, "augment": False, "batch_norm": False, "patience": 0}
SOMETHING = {"dropout": 0.3, "l2": 0.001, "weight_decay": 0.01, "augment": True, "batch_norm": True, "patience": 5}


def regularization_methods(context: Context) -> list[Result]:
    """A14: the run's curves and gap, the measured effect of each method, and training on few and on more rows now."""
    train, valid = _rows(context)
    rows = [
        ("few rows", *_measure(context, NOTHING, _sample_rows(context, train, 1), valid)),
        (
            "eight times the rows, or all of the split",
            *_measure(context, NOTHING, _sample_rows(context, train, 8), valid),
        ),
    ]
    return [
        trainer_output.loss_curves(context),
        overfitting_gap(context),
        *ablation_results(context),
        _trained_now(context, rows),
    ]


def regularization_of_images(context: Context) -> list[Result]:
    """B16: as A14 for the image network, with training now on few pictures without any method and with all methods."""
    if not context.case.picture:
        return [explain_missing_pictures(context)]
    train, valid = _rows(context)
    few = _sample_rows(context, train, 1)
    rows = [
        (name, *_measure(context, changes, few, valid))
        for name, changes in (("no method against overfitting", NOTHING), ("all methods", SOMETHING))
    ]
    return [
        trainer_output.loss_curves(context),
        overfitting_gap(context),
        *ablation_results(context),
        _trained_now(context, rows),
    ]


def overfitting_gate(context: Context) -> list[Result]:
    """B26: the overfitting gate on this run, and on a network that is overfitted to few rows now."""
    train, valid = _rows(context)
    few = _sample_rows(context, train, 1)
    fit, curves = train_on_rows(context, NOTHING, few, valid)
    limit = context.settings["gates"]["max_gap"]
    lines = {
        name: tuple((epoch + 1, curve[name]) for epoch, curve in enumerate(curves)) for name in ("loss", "valid_loss")
    }
    return [
        overfitting_gap(context),
        Number("Gate on this run", find_overfitting(context.training["fit"], limit) or "passes"),
        Series(
            f"Loss on {fit['train']['rows']} rows, trained now without any method against overfitting",
            "epoch",
            "loss",
            lines,
        ),
        Number("Gate on the network trained now", find_overfitting(fit, limit) or "passes"),
    ]


def overfitting_gap(context: Context) -> Table:
    """Loss and metric of the best weights on train and valid, both in inference mode, with the gate's limit in the title."""
    fit, limit = context.training["fit"], context.settings["gates"]["max_gap"]
    name = fit["metric"]
    rows = [(split, fit[split]["rows"], fit[split]["loss"], fit[split][name]) for split in ("train", "valid")]
    difference = fit["train"][name] - fit["valid"][name]
    rows.append(("gap", "", fit["valid"]["loss"] - fit["train"]["loss"], difference))
    return Table(
        f"Best weights; the gate allows a gap in {name} of {limit:g}", ("split", "rows", "loss", name), tuple(rows)
    )


def ablation_results(context: Context) -> list[Result]:
    """The benchmark's results for this use case, with date: the effect of each method, and cross-validation."""
    title = "Effect of each method alone"
    case = benchmark_reports.read("ablation").get("cases", {}).get(context.case.name)
    if not case:
        return [benchmark_reports.not_measured("ablation", title)]
    table_title = f"{title}: {case['metric']}, {case['rows']} rows, {case['seeds']} seeds, {case['date'][:10]}"
    figures = ("train", "valid", "eval", "gap")
    rows = tuple(
        (name, *(row[figure]["mean"] for figure in figures), row["gap"]["sd"], row["ratio"])
        for name, row in case["methods"].items()
    )
    folds = case["folds"]
    estimates = (
        (f"{folds['folds']} folds", folds["mean"], folds["sd"]),
        ("valid split", folds["valid"], None),
        ("eval split", folds["eval"], None),
    )
    return [
        Table(
            table_title, ("method", *figures, "standard deviation of the gap", "share of the gap without methods"), rows
        ),
        Table(
            f"{case['metric']} estimated by cross-validation and on one split",
            ("estimate", "mean", "standard deviation"),
            estimates,
        ),
    ]


def train_on_rows(
    context: Context, changes: Mapping[str, Any], train: Rows, valid: Rows
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Train the use case's network on these rows; return its fit, as in training.json, and its curves.

    Without patience (early stopping) the last epoch is kept, as nothing then monitors the validation split.
    """
    network, recorded = context.network, context.training["settings"]
    known_changes = {name: value for name, value in changes.items() if name in recorded}
    settings = shorten_training({**recorded, **known_changes}, len(train[network.LABEL]))
    fitted = fit_rows(network if settings["patience"] else LastEpoch(network), settings, train, valid)
    return measure_fit(network, settings, fitted.model, train, valid), fitted.curves


def shorten_training(settings: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Settings for ``STEPS`` steps on few rows, at least four batches per epoch, in this process only."""
    size = max(8, min(settings["batch_size"], rows // 4))
    epochs = math.ceil(STEPS / max(1, rows // size))
    return {**settings, "batch_size": size, "epochs": epochs, "max_steps": STEPS, "strategy": "none"}


def _measure(context: Context, changes: Mapping[str, Any], train: Rows, valid: Rows) -> tuple[float, ...]:
    fit, _ = train_on_rows(context, changes, train, valid)
    on_train, on_valid = (fit[split][fit["metric"]] for split in ("train", "valid"))
    return fit["train"]["rows"], on_train, on_valid, on_train - on_valid


def _trained_now(context: Context, rows: list[tuple[Any, ...]]) -> Table:
    metric = context.network.MONITOR
    return Table(
        f"{metric} of networks trained now for {STEPS} steps",
        ("training", "rows", "train", "valid", "gap"),
        tuple(rows),
    )


def _sample_rows(context: Context, train: Rows, multiple: int) -> Rows:
    """Sample rows such that the rarest class has about ``RAREST`` of them, or a multiple."""
    label = train[context.network.LABEL]
    share = np.unique(label, return_counts=True)[1].min() / len(label)
    return sample([train], math.ceil(multiple * RAREST / share), context.training["settings"]["seed"])


def _rows(context: Context) -> tuple[Rows, Rows]:
    network = context.network
    keep = (*network.INPUTS, network.LABEL)
    return context.rows("train", keep, POOL), context.rows("valid", keep, VALID)
