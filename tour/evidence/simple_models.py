"""Evidence on simple models: the run's comparison of baselines with the network, and small models fitted now."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from models.catalog import CASES
from models.evaluation import baselines
from models.evaluation.baselines import FeatureTable as Examples
from models.input import load
from tour.evidence.context import Context
from tour.evidence.result_types import Number, Result, Table

SAMPLE = 20_000
SHOWN = 8
COLUMNS = ("model", "metric", "interval from", "interval to", "training s", "bytes")


def forest(context: Context) -> list[Result]:
    """A26: this run's random forest: the six parameters, its size, its metric compared with other models and computed again."""
    comparison, network = context.comparison, context.network
    row, model = (
        _row(comparison, "random forest"),
        baselines.load_forest(context.artifact("comparison") / "random_forest"),
    )
    table = _table(context, load(context.shards("eval"), context.transform, (*network.INPUTS, network.LABEL)))
    scores = baselines.predict_forest(model, table.names, table.x)
    now = _metric(context, table, scores if context.scores.shape[1] > 1 else scores[:, 1:])
    return [
        forest_parameters(model, row["settings"], context.training["rows"]),
        Table("Size of the forest, read from its files", ("", "value"), tuple(forest_size(model).items())),
        Table(
            f"{comparison['metric']} on {comparison['evaluated']} rows of eval, {comparison['level']:.0%} interval",
            COLUMNS[:4],
            tuple(line[:4] for line in _lines(comparison)),
        ),
        Number("Verdict", context.run.facts["comparison"]),
        Table(
            "Metric of the saved forest",
            ("", "value"),
            (
                (f"{comparison['metric']} recorded by the run", row["metric"]),
                (f"{comparison['metric']} computed now", now),
            ),
        ),
        column_importances(context, model),
    ]


def deep_or_classic(context: Context) -> list[Result]:
    """B6: metric with interval, training time and size of every model and use case; the verdicts; a regression fitted now."""
    runs = {name: Context.of(context.home, name) for name in CASES if Context.has(context.home, name)}
    runs[context.case.name] = context
    results: list[Result] = []
    for name, run in runs.items():
        comparison = run.comparison
        title = f"{name}: {comparison['metric']} on {comparison['evaluated']} rows of eval, {comparison['level']:.0%} interval"
        results += [Table(title, COLUMNS, _lines(comparison)), Number(f"{name}: verdict", run.run.facts["comparison"])]
    return [*results, metrics_by_slice(context.comparison), refit_logistic(context)]


def forest_parameters(model: Any, settings: Mapping[str, Any], rows: int) -> Table:
    """The six parameters of the question: the YDF option of each, and its value in this forest."""
    columns, size = len(model.input_feature_names()), forest_size(model)
    ratio = settings.get("num_candidate_attributes_ratio")
    sample = settings["bootstrap_size_ratio"]
    return Table(
        "The six parameters",
        ("parameter", "option in YDF", "in this forest"),
        (
            ("inputs", "the columns of the data set, or features=", columns),
            (
                "features per node",
                "num_candidate_attributes, or its _ratio",
                f"{ratio:g} of {columns}" if ratio else f"square root of {columns} (default)",
            ),
            (
                "batch or sample",
                "bootstrap_size_ratio; no batches, as the data is in memory",
                f"{round(sample * rows)} of {rows} rows per tree, with replacement",
            ),
            (
                "steps",
                "none: each tree is grown once; maximum_training_duration_seconds limits the training",
                "no time limit",
            ),
            ("trees", "num_trees", model.num_trees()),
            (
                "maximum nodes",
                "max_num_nodes with growing_strategy=BEST_FIRST_GLOBAL; else max_depth, min_examples",
                f"depth {settings['max_depth']}, at least {settings['min_examples']} rows per leaf; "
                f"the largest tree has {size['nodes of the largest tree']} nodes",
            ),
        ),
    )


def forest_size(model: Any) -> dict[str, int]:
    """Numbers of trees and nodes, and the depth, counted by traversing every tree."""
    trees = [list(_walk(tree.root, 1)) for tree in model.iter_trees()]
    return {
        "trees": len(trees),
        "nodes": sum(len(depths) for depths in trees),
        "nodes of the largest tree": max(len(depths) for depths in trees),
        "depth of the deepest leaf": max(max(depths) for depths in trees),
    }


def column_importances(context: Context, model: Any) -> Table:
    """Columns with the highest importance (1 if the column splits every root), and how many roots each of them splits."""
    by_kind = model.variable_importances()
    roots = {name: int(value) for value, name in by_kind["NUM_AS_ROOT"]}
    highest = sorted(by_kind["INV_MEAN_MIN_DEPTH"], reverse=True)[:SHOWN]
    rows = tuple((column_label(context, name), value, roots.get(name, 0)) for value, name in highest)
    return Table("Columns that the forest splits on first", ("column", "1 / (1 + mean minimum depth)", "roots"), rows)


def column_label(context: Context, column: str) -> str:
    """Readable name of a column, if the use case defines one: ``numeric.4`` is ``distance_km``."""
    name, _, index = column.rpartition(".")
    names = getattr(context.case.load("features"), "COLUMNS", {}).get(name, ())
    shape = context.transform.features[name].shape
    if not names or len(names) != shape[-1]:
        return column
    step, position = divmod(int(index), len(names))
    return names[position] if shape.rank == 2 else f"{name} {step}: {names[position]}"


def metrics_by_slice(comparison: Mapping[str, Any]) -> Table:
    """Metric of every model on every slice; the first row is the whole split."""
    names = [row["model"] for row in comparison["rows"]]
    rows = []
    for number, part in enumerate(comparison["rows"][0]["slices"]):
        title = " and ".join(f"{column} {value}" for column, value in part["slice"]) or "whole eval split"
        rows.append((title, part["rows"], *(row["slices"][number]["metric"] for row in comparison["rows"])))
    return Table(f"{comparison['metric']} by slice", ("slice", "rows", *names), tuple(rows))


def refit_logistic(context: Context) -> Table:
    """Fit logistic regression now on a part of the train split; compare it with the run's recorded models."""
    train, evaluated = (_table(context, context.labelled_rows(split, SAMPLE)) for split in ("train", "eval"))
    started = time.perf_counter()
    model = baselines.fit_logistic_regression(train, evaluated)
    seconds = time.perf_counter() - started
    comparison = context.comparison
    now = _metric(context, evaluated, model.scores(evaluated.x, context.scores.shape[1]))
    recorded = ((row["model"], context.training["rows"], row["seconds"], row["metric"]) for row in comparison["rows"])
    return Table(
        "Logistic regression fitted now, compared with the recorded models",
        ("model", "training rows", "training s", comparison["metric"]),
        (("logistic regression, fitted now", len(train.y), seconds, now), *recorded),
    )


def _row(comparison: Mapping[str, Any], model: str) -> dict[str, Any]:
    return next(row for row in comparison["rows"] if row["model"] == model)


def _lines(comparison: Mapping[str, Any]) -> tuple[tuple[Any, ...], ...]:
    """One line per model, best first."""
    rows = sorted(comparison["rows"], key=lambda row: -row["metric"])
    return tuple((row["model"], row["metric"], *row["interval"], row["seconds"], row["bytes"]) for row in rows)


def _table(context: Context, features: Mapping[str, Any]) -> Examples:
    network = context.network
    return Examples.of(network.INPUTS, network.LABEL, features)


def _metric(context: Context, table: Examples, scores: Any) -> float:
    network = context.network
    return network.quality(table.y[:, None], scores)[network.MONITOR]


def _walk(node: Any, depth: int) -> Iterator[int]:
    """Yield the depth of this node and of every node below it."""
    yield depth
    if not node.is_leaf:
        yield from _walk(node.neg_child, depth + 1)
        yield from _walk(node.pos_child, depth + 1)
