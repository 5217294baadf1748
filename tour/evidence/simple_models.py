"""Simple models beside the network: what this run's Comparison says, and smaller fits made now."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from models.catalog import CASES
from models.evaluation import baselines
from models.evaluation.baselines import Table as Examples
from models.input import load
from tour.evidence.context import Context
from tour.evidence.result_types import Number, Result, Table

SAMPLE = 20_000
SHOWN = 8
COLUMNS = ("model", "metric", "from", "to", "training s", "bytes")


def forest(context: Context) -> list[Result]:
    """A26: the six parameters in this run's forest, the forest opened and asked anew, and its metric beside others."""
    found = _comparison(context)
    row, model = _row(found, "random forest"), baselines.opened(context.artifact("comparison") / "random_forest")
    held = _table(context, load(context.shards("eval"), context.transform, _keep(context)))
    scores = baselines.forest_scores(model, held.names, held.x)
    now = _metric(context, held, scores if _outputs(context) > 1 else scores[:, 1:])
    return [
        parameters(model, row["settings"], context.training["rows"]),
        Table("The forest, read from its files", ("", "value"), tuple(shape(model).items())),
        Table(
            f"{found['metric']} on {found['evaluated']} rows of eval, {found['level']:.0%} interval",
            COLUMNS[:4],
            tuple(one[:4] for one in _lines(found)),
        ),
        Number("Who is ahead", context.run.facts["comparison"]),
        Table(
            "The saved forest, asked now",
            ("", "value"),
            ((f"{found['metric']} recorded by the run", row["metric"]), (f"{found['metric']} computed now", now)),
        ),
        importances(context, model),
    ]


def deep_or_classic(context: Context) -> list[Result]:
    """B6: every model of every case: metric with interval, time and size; who wins; a regression fitted now."""
    runs = {name: Context.of(context.home, name) for name in CASES if Context.has(context.home, name)}
    runs[context.case.name] = context
    results: list[Result] = []
    for name, one in runs.items():
        found = _comparison(one)
        title = f"{name}: {found['metric']} on {found['evaluated']} rows, {found['level']:.0%} interval"
        results += [Table(title, COLUMNS, _lines(found)), Number(f"{name}: who wins", one.run.facts["comparison"])]
    return [*results, by_slice(_comparison(context)), refitted(context)]


def parameters(model: Any, settings: Mapping[str, Any], rows: int) -> Table:
    """The six that the question asks for: where each lives in YDF, and what it is in this forest."""
    columns, tallest = len(model.input_feature_names()), shape(model)
    tried = settings.get("num_candidate_attributes_ratio")
    sample = settings["bootstrap_size_ratio"]
    return Table(
        "The six parameters",
        ("asked for", "where it lives in YDF", "in this forest"),
        (
            ("inputs", "the columns of the data set, or features=", columns),
            (
                "features per node",
                "num_candidate_attributes, or its _ratio",
                f"{tried:g} of {columns}" if tried else f"square root of {columns}, the default",
            ),
            (
                "batch or sample",
                "bootstrap_size_ratio; no batches, the data is in memory",
                f"{round(sample * rows)} of {rows} rows a tree, with replacement",
            ),
            ("steps", "none: a tree is grown once; maximum_training_duration_seconds can end it", "no limit of time"),
            ("trees", "num_trees", model.num_trees()),
            (
                "maximum nodes",
                "max_num_nodes with growing_strategy=BEST_FIRST_GLOBAL; else max_depth, min_examples",
                f"depth {settings['max_depth']}, from {settings['min_examples']} rows; "
                f"the largest tree has {tallest['nodes of the largest tree']}",
            ),
        ),
    )


def shape(model: Any) -> dict[str, int]:
    """Trees and nodes, counted by walking every tree."""
    walked = [list(_walk(tree.root, 1)) for tree in model.iter_trees()]
    return {
        "trees": len(walked),
        "nodes": sum(len(depths) for depths in walked),
        "nodes of the largest tree": max(len(depths) for depths in walked),
        "depth of the deepest leaf": max(max(depths) for depths in walked),
    }


def importances(context: Context, model: Any) -> Table:
    """The columns that stand nearest to the roots, 1 at the root of every tree, and how many roots each splits."""
    by_kind = model.variable_importances()
    roots = {name: int(value) for value, name in by_kind["NUM_AS_ROOT"]}
    nearest = sorted(by_kind["INV_MEAN_MIN_DEPTH"], reverse=True)[:SHOWN]
    rows = tuple((label(context, name), value, roots.get(name, 0)) for value, name in nearest)
    return Table("What the forest splits on first", ("column", "1 / (1 + mean least depth)", "roots"), rows)


def label(context: Context, column: str) -> str:
    """A table's column as people call it, where the case says so: ``numeric.4`` is ``distance_km``."""
    name, _, index = column.rpartition(".")
    names = getattr(context.case.load("features"), "COLUMNS", {}).get(name, ())
    shape = context.transform.features[name].shape
    if not names or len(names) != shape[-1]:
        return column
    step, at = divmod(int(index), len(names))
    return names[at] if shape.rank == 2 else f"{name} {step}: {names[at]}"


def by_slice(found: Mapping[str, Any]) -> Table:
    """The metric of every model on every slice, the whole split first."""
    names = [row["model"] for row in found["rows"]]
    rows = []
    for number, one in enumerate(found["rows"][0]["slices"]):
        title = " and ".join(f"{column} {value}" for column, value in one["slice"]) or "the whole eval split"
        rows.append((title, one["rows"], *(row["slices"][number]["metric"] for row in found["rows"])))
    return Table(f"{found['metric']} by the Evaluator's slices", ("slice", "rows", *names), tuple(rows))


def refitted(context: Context) -> Table:
    """Logistic regression fitted now on a part of the train split, beside what the run recorded."""
    train, held = (
        _table(context, context.rows(split, _keep(context), most))
        for split, most in (("train", SAMPLE), ("eval", SAMPLE))
    )
    started = time.perf_counter()
    model = baselines.logistic(train, held)
    seconds = time.perf_counter() - started
    found = _comparison(context)
    now = _metric(context, held, model.scores(held.x, _outputs(context)))
    kept = ((row["model"], context.training["rows"], row["seconds"], row["metric"]) for row in found["rows"])
    return Table(
        "Logistic regression, fitted now",
        ("model", "rows", "training s", found["metric"]),
        (("logistic regression, now", len(train.y), seconds, now), *kept),
    )


def _comparison(context: Context) -> dict[str, Any]:
    return json.loads((context.artifact("comparison") / "comparison.json").read_text())


def _row(found: Mapping[str, Any], model: str) -> dict[str, Any]:
    return next(row for row in found["rows"] if row["model"] == model)


def _lines(found: Mapping[str, Any]) -> tuple[tuple[Any, ...], ...]:
    """A line a model, the best first."""
    rows = sorted(found["rows"], key=lambda row: -row["metric"])
    return tuple((r["model"], r["metric"], *r["interval"], r["seconds"], r["bytes"]) for r in rows)


def _keep(context: Context) -> tuple[str, ...]:
    network = context.case.load("model")
    return (*network.INPUTS, network.LABEL)


def _table(context: Context, features: Mapping[str, Any]) -> Examples:
    network = context.case.load("model")
    return Examples.of(network.INPUTS, network.LABEL, features)


def _outputs(context: Context) -> int:
    """How many scores the network gives a row."""
    import numpy as np

    with np.load(context.artifact("comparison") / "scores.npz") as scores:
        return scores["network"].shape[1]


def _metric(context: Context, table: Examples, scores: Any) -> float:
    network = context.case.load("model")
    return network.quality(table.y[:, None], scores)[network.MONITOR]


def _walk(node: Any, depth: int) -> Iterator[int]:
    """The depth of every node under this one, itself included."""
    yield depth
    if not node.is_leaf:
        yield from _walk(node.neg_child, depth + 1)
        yield from _walk(node.pos_child, depth + 1)
