"""Transfer learning: what the benchmark measured, and the same on the run's own pictures, now."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from models.image import transfer
from tour.evidence import benchmark_reports
from tour.evidence.context import Context
from tour.evidence.result_types import NotHere, Result, Series, Table

WAYS = ("scratch", "frozen", "thawed")
# Live: so small that it takes seconds.
ROWS, SHOTS, STEPS, BASE_STEPS, FILTERS, SEED, RATE = 3000, 5, 60, 250, 12, 1, 0.003


def few_pictures(context: Context) -> list[Result]:
    """B7: accuracy from few pictures of new classes, from scratch and on a base that knows the others."""
    network = context.case.load("model")
    pictures = next((name for name in network.INPUTS if context.transform.features[name].shape.rank == 4), None)
    if pictures is None:
        return [NotHere("No pictures", f"{context.case.name} has no pictures; ask with --case image.")]
    keep = (pictures, network.LABEL)
    rows = (context.rows(split, keep, ROWS) for split in ("train", "eval"))
    train, held = ((one[pictures], one[network.LABEL][:, 0]) for one in rows)
    parts = transfer.split(train, held, SHOTS, SEED)
    settings = {**context.training["settings"], "filters": FILTERS, "dropout": 0.0, "transfer": ""}
    return [*benchmark(), live(network, settings, parts, context.settings["data"]["classes"].split(","))]


def live(network: Any, settings: Mapping[str, Any], parts: transfer.Split, names: list[str]) -> Table:
    """A base learnt now on the known classes, and the three ways on the new ones."""
    keras.utils.set_random_seed(SEED)
    make = transfer.maker(network, settings, parts.few[0].shape[1:])
    body = transfer.without_head(transfer.trained(make(len(np.unique(parts.known[1]))), parts.known, BASE_STEPS, RATE))
    found = transfer.compared(body, make, parts, STEPS, RATE, lambda pixels: network.augmented(pixels, settings))
    new = ", ".join(names[one] for one in parts.names)
    title = f"Learnt now: {SHOTS} pictures each of {new}; accuracy on {len(parts.held[1])} others"
    told = (
        f"fresh weights, {2 * STEPS} steps",
        f"head on a frozen base, {STEPS} steps",
        f"then all of it, {STEPS} more at a tenth of the rate",
    )
    return Table(title, ("way", "accuracy"), tuple((text, found[way]) for text, way in zip(told, WAYS, strict=True)))


def benchmark() -> list[Result]:
    """Mean accuracy by pictures a class, from the benchmark's file, with its date."""
    told = benchmark_reports.read("transfer")
    if not told:
        return [benchmark_reports.missing("transfer", "Benchmark of transfer")]
    lines = {
        way: tuple((row["shots"], row[way]["mean"]) for row in told["rows"]) for way in WAYS if way in told["rows"][0]
    }
    seeds, date = len(told["seeds"]), told["machine"]["date"][:10]
    columns = ("pictures a class", *(f"{way} (± sd)" for way in WAYS))
    rows = tuple(
        (row["shots"], *(f"{row[way]['mean']:.3f} ± {row[way]['deviation']:.3f}" for way in WAYS))
        for row in told["rows"]
    )
    return [
        Series(
            f"{told['data']}, mean of {seeds} seeds, {date}", "pictures a class", "accuracy on the new classes", lines
        ),
        Table(f"benchmarks.transfer, {seeds} seeds, {date}", columns, rows),
    ]
