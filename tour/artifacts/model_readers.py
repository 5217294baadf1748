"""Readers of the artifacts of training and evaluation: training runs, baselines, evaluations with a movable threshold."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from models.data.class_names import list_classes
from tour import charts
from tour.artifacts import curves
from tour.artifacts.parts import Chart, Classes, Part, RunContext, Threshold, load_json
from tour.evidence.result_types import NotHere, Table
from tour.trace import Artifact

FACTS = ("rows", "batch_size", "steps", "parameters", "trainable", "replicas")


def training_run(artifact: Artifact, context: RunContext) -> Iterator[Part]:
    record = load_json(artifact.folder / "training.json")
    epochs = record["curves"]
    names = [name for name in epochs[0] if name not in ("seconds", "examples_per_second")]
    losses = [name for name in names if name.endswith("loss")]
    # Epochs are numbered from 1 on the page.
    values = {name: [(n, epoch[name]) for n, epoch in enumerate(epochs, 1) if name in epoch] for name in names}
    best = record.get("best_epoch", 0)
    journal = [{**row, "epoch": row["epoch"] + 1} for row in record.get("journal", [])]
    note = "ticks at the bottom: actions of callbacks" if journal else ""
    for title, group in (
        ("Loss by epoch", losses),
        *((f"{name} by epoch", [name]) for name in names if name not in losses),
    ):
        series = {name: values[name] for name in group}
        frame = charts.fit_frame([point for points in series.values() for point in points])
        top = group[-1]
        marks = {f"best weights: epoch {best + 1}": (best + 1, epochs[best][top])} if top in epochs[best] else {}
        chart = charts.line_chart(
            title, series, "epoch", title.partition(" ")[0], marks, frame, _callback_ticks(journal, frame)
        )
        yield Chart(title, chart, note)
    rows = tuple((row["epoch"], row["callback"], row["what"]) for row in journal)
    yield Table("Actions of callbacks", ("epoch", "callback", "action"), rows)
    facts = [(name, record[name]) for name in FACTS if name in record]
    speed = [epoch["examples_per_second"] for epoch in epochs if "examples_per_second" in epoch]
    facts += [("examples per second, fastest epoch", round(max(speed)))] if speed else []
    facts += [("seconds in epochs", round(sum(epoch.get("seconds", 0.0) for epoch in epochs), 1))]
    yield Table("The training", ("fact", "value"), tuple(facts))
    if fit := record.get("fit"):
        metric = fit["metric"]
        rows = tuple((split, fit[split]["rows"], fit[split][metric]) for split in ("train", "valid"))
        yield Table(f"{metric} of the best weights, in inference mode", ("split", "rows", metric), rows)


def _callback_ticks(journal: Sequence[Mapping[str, Any]], frame: charts.Frame) -> Markup:
    """A tick at the bottom for every action of a callback, with the action as its tooltip."""
    tick = Markup('<g class="tickmark"><title>epoch {}, {}: {}</title><path d="M{:.1f} {:.1f}v-9"/></g>')
    floor = frame.height - charts.BOTTOM
    return Markup("").join(
        tick.format(row["epoch"], row["callback"], row["what"], frame.x_position(row["epoch"]), floor)
        for row in journal
    )


def comparison(artifact: Artifact, context: RunContext) -> Iterator[Part]:
    record = load_json(artifact.folder / "comparison.json")
    metric = record["metric"]
    ranked = sorted(record["rows"], key=lambda row: -row["metric"])
    rows = tuple((row["model"], row["metric"], *row["interval"], row["seconds"], row["bytes"]) for row in ranked)
    title = f"{metric} on {record['evaluated']:,} rows of eval"
    yield Table(title, ("model", metric, f"{record['level']:.0%} from", "to", "seconds to fit", "bytes"), rows)
    names = [row["model"] for row in ranked]
    yield Chart(
        "Models compared", charts.bar_chart(title, {metric: [row["metric"] for row in ranked]}, names), ", ".join(names)
    )
    yield slices(record)
    if reviews := record.get("reviews"):
        yield tabulate_reviews(reviews)


def tabulate_reviews(reviews: Mapping[str, Any]) -> Table:
    """What a fixed number of reviews a day finds, by model."""
    columns = {"card_precision": "card precision", "recall": "recall", "value_recall": "recall of the amounts"}
    rows = tuple((row["model"], *(row[name] for name in columns)) for row in reviews["rows"])
    title = f"{reviews['capacity']:,} reviews a day, over {reviews['days']} days of eval"
    return Table(title, ("model", *columns.values()), rows)


def slices(comparison: Mapping[str, Any]) -> Table:
    """Metric of every model by slice."""
    names = [row["model"] for row in comparison["rows"]]
    by_slice: dict[str, list[Any]] = {}
    for row in comparison["rows"]:
        for part in row["slices"]:
            key = " and ".join(f"{column} {value}" for column, value in part["slice"]) or "all"
            value = "" if part["metric"] is None else part["metric"]
            by_slice.setdefault(key, [key, part["rows"]]).append(value)
    rows = tuple(tuple(row) for row in by_slice.values())
    return Table(f"{comparison['metric']} by slice", ("slice", "rows", *names), rows)


def evaluation(artifact: Artifact, context: RunContext) -> Iterator[Part]:
    metrics = json.loads(context.facts.get("metrics") or "{}")
    if "comparison" in context.outputs:
        yield from threshold_slider(context)
    if metrics:
        yield Table(
            "Candidate on the whole eval split", ("metric", "value"), tuple(map(_strip_decimals, metrics.items()))
        )
    if "comparison" in context.outputs and (path := context.outputs["comparison"].folder / "comparison.json").is_file():
        yield slices(load_json(path))
    bounds = [
        (name, value) for name, value in context.settings.get("gates", {}).items() if name.startswith(("min_", "max_"))
    ]
    if bounds:
        yield Table("Bounds for the blessing", ("bound", "value"), tuple(bounds))


def threshold_slider(context: RunContext) -> Iterator[Part]:
    """The threshold slider for two classes, the confidence slider for several."""
    scores = curves.load_scores(context.outputs["comparison"].folder)
    if not scores:
        yield NotHere("Scores of the eval split", "The run has not kept them.")
        return
    network, point = scores["network"], _operating_point(context)
    if network.shape[1] > 1:
        names = list_classes(context.settings.get("data", {}))
        names = names if len(names) == network.shape[1] else [str(n) for n in range(network.shape[1])]
        yield Classes("Confusion on the eval split", names, curves.confidence_table(scores["truth"], network))
        return
    table = curves.threshold_table(scores["truth"], network[:, 0], point.get("threshold", 0.5))
    training = context.settings.get("training", {})
    costs = {"miss": float(training.get("miss_cost", 1.0)), "review": float(training.get("review_cost", 1.0))}
    served = curves.rates_at(table, table["served"])
    rows = [curves.rates_at(table, at) for at in range(len(table["threshold"]))]
    unit = charts.Frame((0.0, 1.0), (0.0, 1.0), 320.0, 380.0)
    roc = _curve("ROC", rows, unit, "fpr", "recall", "false positive rate")
    pr = _curve(
        "Precision and recall", [row for row in rows if row["tp"] + row["fp"]], unit, "recall", "precision", "recall"
    )
    yield Threshold(
        title="Move the threshold",
        table=table,
        prices=costs,
        served=served,
        roc=_add_points(roc, unit, served, "fpr", "recall"),
        pr=_add_points(pr, unit, served, "recall", "precision"),
    )


def _curve(title: str, rows: Sequence[Mapping[str, float]], frame: charts.Frame, x: str, y: str, label: str) -> Markup:
    return charts.line_chart(title, {title: [(row[x], row[y]) for row in rows]}, label, y, {}, frame)


def _add_points(chart: Markup, frame: charts.Frame, served: Mapping[str, float], x: str, y: str) -> Markup:
    """Add the served point and the point that the page's script moves to a chart; attributes hold the chart's frame."""
    point = Markup('<circle class="{}" r="{}" cx="{:.1f}" cy="{:.1f}" data-x="{}" data-y="{}" data-frame="{}"/>')
    ends = " ".join(
        f"{end:.2f}" for end in (frame.x_position(0), frame.x_position(1), frame.y_position(0), frame.y_position(1))
    )
    points = [
        point.format(kind, size, frame.x_position(served[x]), frame.y_position(served[y]), x, y, ends)
        for kind, size in (("served", 9), ("moved", 5.5))
    ]
    return Markup(str(chart).replace("</svg>", f"{''.join(points)}</svg>"))


def _operating_point(context: RunContext) -> dict[str, float]:
    """Operating point in the metadata of the run's model."""
    for key in ("model", "blessing"):
        if key in context.outputs:
            for path in context.outputs[key].folder.glob("*/assets.extra/model.json"):
                return load_json(path)["operating_point"]
    return {}


def _strip_decimals(pair: tuple[str, float]) -> tuple[str, float | int]:
    """A metric as an integer if it is a count."""
    name, value = pair
    return name, int(value) if float(value).is_integer() and abs(value) > 1 else value
