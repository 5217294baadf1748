"""Overfitting: the run's curves and gap, measured effects of what is done against it, and small trainings made now."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from components.training.fit_gate import overfitted
from models.rows import Rows, sample
from models.training.entry_point import measured
from models.training.refit import LastEpoch, fit_rows
from tour.evidence import benchmark_reports
from tour.evidence.context import Context
from tour.evidence.result_types import NotHere, Number, Result, Series, Table
from tour.evidence.training import trainer_output

POOL, VALID, RAREST, STEPS = 8192, 4096, 8, 120
# Against overfitting nothing at all, and a little of everything that the network knows.
NOTHING = {"dropout": 0.0, "l2": 0.0, "weight_decay": 0.0, "augment": False, "batch_norm": False, "patience": 0}
SOMETHING = {"dropout": 0.3, "l2": 0.001, "weight_decay": 0.01, "augment": True, "batch_norm": True, "patience": 5}


def methods(context: Context) -> list[Result]:
    """A14: the run's curves and gap, each method's measured effect, and now: more rows against few."""
    train, valid = _rows(context)
    rows = [
        ("few rows", *_live(context, NOTHING, _few(context, train, 1), valid)),
        ("eight times the rows, or all there are", *_live(context, NOTHING, _few(context, train, 8), valid)),
    ]
    return [trainer_output.curves(context), gap(context), *ablation(context), _made_now(context, rows)]


def practice(context: Context) -> list[Result]:
    """B16: as A14 for the image network; now: few pictures without any method, and with all."""
    if not any(context.transform.features[name].shape.rank == 4 for name in context.case.load("model").INPUTS):
        return [NotHere("No pictures", f"{context.case.name} has no pictures; ask with --case image.")]
    train, valid = _rows(context)
    few = _few(context, train, 1)
    rows = [
        (name, *_live(context, changes, few, valid))
        for name, changes in (("nothing against it", NOTHING), ("all methods", SOMETHING))
    ]
    return [trainer_output.curves(context), gap(context), *ablation(context), _made_now(context, rows)]


def caught(context: Context) -> list[Result]:
    """B26: the gate on this run, and on a network that is overfitted to few rows now."""
    train, valid = _rows(context)
    few = _few(context, train, 1)
    fit, curves = trained(context, NOTHING, few, valid)
    limit = context.settings["gates"]["max_gap"]
    lines = {
        name: tuple((epoch + 1, curve[name]) for epoch, curve in enumerate(curves)) for name in ("loss", "valid_loss")
    }
    return [
        gap(context),
        Number("The gate on this run", overfitted(context.training["fit"], limit) or "passes"),
        Series(
            f"Loss on {fit['train']['rows']} rows, trained now with nothing against overfitting", "epoch", "loss", lines
        ),
        Number("The gate on that network", overfitted(fit, limit) or "passes"),
    ]


def gap(context: Context) -> Table:
    """Loss and metric of the kept weights on train and valid, both in inference mode, beside the gate's limit."""
    fit, limit = context.training["fit"], context.settings["gates"]["max_gap"]
    name = fit["metric"]
    rows = [(split, fit[split]["rows"], fit[split]["loss"], fit[split][name]) for split in ("train", "valid")]
    apart = fit["train"][name] - fit["valid"][name]
    rows.append(("gap", "", fit["valid"]["loss"] - fit["train"]["loss"], apart))
    return Table(f"The kept weights; the gate allows a gap of {limit:g}", ("split", "rows", "loss", name), tuple(rows))


def ablation(context: Context) -> list[Result]:
    """What the benchmark measured of every method for this case, with its date; and its cross-validation."""
    title = "Each method alone"
    case = benchmark_reports.read("ablation").get("cases", {}).get(context.case.name)
    if not case:
        return [benchmark_reports.missing("ablation", title)]
    what = f"{title}: {case['metric']}, {case['rows']} rows, {case['seeds']} seeds, {case['date'][:10]}"
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
        Table(what, ("method", *figures, "gap's deviation", "gap to none"), rows),
        Table(f"{case['metric']} by cross-validation and by one split", ("by", "mean", "deviation"), estimates),
    ]


def trained(
    context: Context, changes: Mapping[str, Any], train: Rows, valid: Rows
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """The case's network on these rows: its fit as training.json has it, and its curves.

    Without patience the last epoch is kept, as there is then nothing that looks at valid.
    """
    network, told = context.case.load("model"), context.training["settings"]
    settings = short(
        {**told, **{name: value for name, value in changes.items() if name in told}}, len(train[network.LABEL])
    )
    fitted = fit_rows(network if settings["patience"] else LastEpoch(network), settings, train, valid)
    return measured(network, settings, fitted.model, train, valid), fitted.curves


def short(settings: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Settings for ``STEPS`` steps on few rows: four batches an epoch at most, on this process alone."""
    size = max(8, min(settings["batch_size"], rows // 4))
    epochs = math.ceil(STEPS / max(1, rows // size))
    return {**settings, "batch_size": size, "epochs": epochs, "max_steps": STEPS, "strategy": "none"}


def _live(context: Context, changes: Mapping[str, Any], train: Rows, valid: Rows) -> tuple[float, ...]:
    fit, _ = trained(context, changes, train, valid)
    on_train, on_valid = (fit[split][fit["metric"]] for split in ("train", "valid"))
    return fit["train"]["rows"], on_train, on_valid, on_train - on_valid


def _made_now(context: Context, rows: list[tuple[Any, ...]]) -> Table:
    metric = context.case.load("model").MONITOR
    return Table(f"{metric} of networks trained now, {STEPS} steps", ("", "rows", "train", "valid", "gap"), tuple(rows))


def _few(context: Context, train: Rows, times: int) -> Rows:
    """So few rows that the rarest class has about ``RAREST``, or a multiple of them."""
    label = train[context.case.load("model").LABEL]
    share = np.unique(label, return_counts=True)[1].min() / len(label)
    return sample([train], math.ceil(times * RAREST / share), context.training["settings"]["seed"])


def _rows(context: Context) -> tuple[Rows, Rows]:
    network = context.case.load("model")
    keep = (*network.INPUTS, network.LABEL)
    return context.rows("train", keep, POOL), context.rows("valid", keep, VALID)
