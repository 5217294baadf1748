"""Evidence on transfer learning: the benchmark's results, and a small experiment on the run's pictures now."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from models.data.class_names import list_classes
from tour.evidence import benchmark_reports
from tour.evidence.context import Context, explain_missing_pictures
from tour.evidence.result_types import Result, Series, Table

WAYS = ("scratch", "frozen", "thawed")
# Sizes of the experiment that runs now, small enough to take seconds.
ROWS, SHOTS, STEPS, BASE_STEPS, FILTERS, SEED, RATE = 3000, 5, 60, 250, 12, 1, 0.003


def few_pictures(context: Context) -> list[Result]:
    """B7: accuracy on new classes from few pictures, trained from scratch and on a base trained on the other classes."""
    network = context.network
    if not context.case.picture:
        return [explain_missing_pictures(context)]
    transfer = context.case.load("transfer")
    (pictures,) = network.INPUTS
    keep = (pictures, network.LABEL)
    rows = (context.rows(split, keep, ROWS) for split in ("train", "eval"))
    train, evaluated = ((features[pictures], features[network.LABEL][:, 0]) for features in rows)
    parts = transfer.split_classes(train, evaluated, SHOTS, SEED)
    settings = {**context.training["settings"], "filters": FILTERS, "dropout": 0.0, "transfer": ""}
    return [
        *benchmark_results(),
        train_now(network, transfer, settings, parts, list_classes(context.settings["data"])),
    ]


def train_now(network: Any, transfer: Any, settings: Mapping[str, Any], parts: Any, names: list[str]) -> Table:
    """Train a base on the known classes now, then compare the three ways on the new classes."""
    keras.utils.set_random_seed(SEED)
    make_network = transfer.network_builder(network, settings, parts.few[0].shape[1:])
    body = transfer.remove_head(transfer.fit(make_network(len(np.unique(parts.base[1]))), parts.base, BASE_STEPS, RATE))
    accuracy = transfer.compare_methods(
        body, make_network, parts, STEPS, RATE, lambda pixels: network.augment(pixels, settings)
    )
    new_classes = ", ".join(names[label] for label in parts.names)
    title = (
        f"Accuracy on {len(parts.held[1])} pictures of the new classes {new_classes}; "
        f"trained now on {SHOTS} pictures per class"
    )
    descriptions = (
        f"from scratch, {2 * STEPS} steps",
        f"new head on a frozen base, {STEPS} steps",
        f"then fine-tuning of all layers, {STEPS} more steps at a tenth of the learning rate",
    )
    return Table(
        title,
        ("training", "accuracy"),
        tuple((text, accuracy[way]) for text, way in zip(descriptions, WAYS, strict=True)),
    )


def benchmark_results() -> list[Result]:
    """Mean accuracy by number of pictures per class, from the benchmark's report, with its date."""
    report = benchmark_reports.read("transfer")
    if not report:
        return [benchmark_reports.not_measured("transfer", "Benchmark of transfer learning")]
    lines = {
        way: tuple((row["shots"], row[way]["mean"]) for row in report["rows"])
        for way in WAYS
        if way in report["rows"][0]
    }
    seeds, date = len(report["seeds"]), report["machine"]["date"][:10]
    columns = ("pictures per class", *(f"{way} (± standard deviation)" for way in WAYS))
    rows = tuple(
        (row["shots"], *(f"{row[way]['mean']:.3f} ± {row[way]['deviation']:.3f}" for way in WAYS))
        for row in report["rows"]
    )
    return [
        Series(
            f"{report['data']}: mean accuracy over {seeds} seeds, measured {date}",
            "pictures per class",
            "accuracy on the new classes",
            lines,
        ),
        Table(f"Accuracy in benchmarks.transfer over {seeds} seeds, measured {date}", columns, rows),
    ]
