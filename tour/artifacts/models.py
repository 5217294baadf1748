"""Readers of what is learnt and how good it is: training, baselines, evaluation with a threshold that can be moved."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from tour.artifacts import charts, curves
from tour.artifacts.parts import Chart, Classes, Part, Sight, Threshold, loaded
from tour.evidence.result_types import NotHere, Table
from tour.trace import Artifact

FACTS = ("rows", "batch_size", "steps", "parameters", "trainable", "replicas")


def training(one: Artifact, sight: Sight) -> Iterator[Part]:
    told = loaded(one.folder / "training.json")
    epochs = told["curves"]
    names = [name for name in epochs[0] if name not in ("seconds", "examples_per_second")]
    losses = [name for name in names if name.endswith("loss")]
    # People count epochs from one.
    heights = {name: [(n, epoch[name]) for n, epoch in enumerate(epochs, 1) if name in epoch] for name in names}
    best = told.get("best_epoch", 0)
    journal = [{**row, "epoch": row["epoch"] + 1} for row in told.get("journal", [])]
    note = "a tick at the bottom: a callback acted" if journal else ""
    for title, group in (
        ("Loss by epoch", losses),
        *((f"{name} by epoch", [name]) for name in names if name not in losses),
    ):
        series = {name: heights[name] for name in group}
        frame = charts.framed([point for points in series.values() for point in points])
        top = group[-1]
        marks = {f"kept: epoch {best + 1}": (best + 1, epochs[best][top])} if top in epochs[best] else {}
        drawn = charts.lines(title, series, "epoch", title.partition(" ")[0], marks, frame, _ticked(journal, frame))
        yield Chart(title, drawn, note)
    rows = tuple((row["epoch"], row["callback"], row["what"]) for row in journal)
    yield Table("What callbacks did", ("epoch", "callback", "what"), rows)
    facts = [(name, told[name]) for name in FACTS if name in told]
    speed = [epoch["examples_per_second"] for epoch in epochs if "examples_per_second" in epoch]
    facts += [("examples a second, best epoch", round(max(speed)))] if speed else []
    facts += [("seconds in epochs", round(sum(epoch.get("seconds", 0.0) for epoch in epochs), 1))]
    yield Table("The training", ("fact", "value"), tuple(facts))
    if fit := told.get("fit"):
        metric = fit["metric"]
        rows = tuple((split, fit[split]["rows"], fit[split][metric]) for split in ("train", "valid"))
        yield Table(f"{metric} of the kept weights, in inference mode", ("split", "rows", metric), rows)


def _ticked(journal: Sequence[Mapping[str, Any]], frame: charts.Frame) -> Markup:
    """A tick at the floor for every word of a callback, which says itself when pointed at."""
    drawn = Markup('<g class="tickmark"><title>epoch {}, {}: {}</title><path d="M{:.1f} {:.1f}v-9"/></g>')
    floor = frame.height - charts.BOTTOM
    return Markup("").join(
        drawn.format(row["epoch"], row["callback"], row["what"], frame.across(row["epoch"]), floor) for row in journal
    )


def comparison(one: Artifact, sight: Sight) -> Iterator[Part]:
    told = loaded(one.folder / "comparison.json")
    metric = told["metric"]
    ranked = sorted(told["rows"], key=lambda row: -row["metric"])
    rows = tuple((row["model"], row["metric"], *row["interval"], row["seconds"], row["bytes"]) for row in ranked)
    title = f"{metric} on {told['evaluated']:,} rows of eval"
    yield Table(title, ("model", metric, f"{told['level']:.0%} from", "to", "seconds to fit", "bytes"), rows)
    names = [row["model"] for row in ranked]
    yield Chart(
        "Beside each other", charts.bars(title, {metric: [row["metric"] for row in ranked]}, names), ", ".join(names)
    )
    yield slices(told)


def slices(told: Mapping[str, Any]) -> Table:
    """The metric of every model by slice."""
    names = [row["model"] for row in told["rows"]]
    by_slice: dict[str, list[Any]] = {}
    for row in told["rows"]:
        for part in row["slices"]:
            key = " and ".join(f"{column} {value}" for column, value in part["slice"]) or "all"
            value = "" if part["metric"] is None else part["metric"]
            by_slice.setdefault(key, [key, part["rows"]]).append(value)
    rows = tuple(tuple(row) for row in by_slice.values())
    return Table(f"{told['metric']} by slice", ("slice", "rows", *names), rows)


def evaluation(one: Artifact, sight: Sight) -> Iterator[Part]:
    metrics = json.loads(sight.facts.get("metrics") or "{}")
    if "comparison" in sight.outputs:
        yield from scored(sight)
    if metrics:
        yield Table("The candidate over the whole eval split", ("metric", "value"), tuple(map(_whole, metrics.items())))
    if "comparison" in sight.outputs and (path := sight.outputs["comparison"].folder / "comparison.json").is_file():
        yield slices(loaded(path))
    bounds = [
        (name, value) for name, value in sight.settings.get("gates", {}).items() if name.startswith(("min_", "max_"))
    ]
    if bounds:
        yield Table("Bounds that decide on the blessing", ("bound", "value"), tuple(bounds))


def scored(sight: Sight) -> Iterator[Part]:
    """The slider: two classes by threshold, several by confidence."""
    scores = curves.kept_scores(sight.outputs["comparison"].folder)
    if not scores:
        yield NotHere("Scores of the eval split", "The run has not kept them.")
        return
    network, point = scores["network"], _point(sight)
    if network.shape[1] > 1:
        names = sight.settings.get("data", {}).get("classes", "").split(",")
        names = names if len(names) == network.shape[1] else [str(n) for n in range(network.shape[1])]
        yield Classes("Confusion on the eval split", names, curves.confidence(scores["truth"], network))
        return
    told = curves.table(scores["truth"], network[:, 0], point.get("threshold", 0.5))
    training = sight.settings.get("training", {})
    prices = {"miss": float(training.get("miss_cost", 1.0)), "review": float(training.get("review_cost", 1.0))}
    served = curves.rates(told, told["served"])
    every = [curves.rates(told, at) for at in range(len(told["threshold"]))]
    unit = charts.Frame((0.0, 1.0), (0.0, 1.0), 320.0, 380.0)
    roc = _curve("ROC", every, unit, "fpr", "recall", "false positive rate")
    pr = _curve(
        "Precision and recall", [one for one in every if one["tp"] + one["fp"]], unit, "recall", "precision", "recall"
    )
    yield Threshold(
        "Move the threshold",
        told,
        prices,
        served,
        _movable(roc, unit, served, "fpr", "recall"),
        _movable(pr, unit, served, "recall", "precision"),
    )


def _curve(title: str, every: Sequence[Mapping[str, float]], frame: charts.Frame, x: str, y: str, label: str) -> Markup:
    return charts.lines(title, {title: [(one[x], one[y]) for one in every]}, label, y, {}, frame)


def _movable(drawn: Markup, frame: charts.Frame, served: Mapping[str, float], x: str, y: str) -> Markup:
    """The drawing with the served point, and one that the page's script moves; its frame is told in attributes."""
    point = Markup('<circle class="{}" r="{}" cx="{:.1f}" cy="{:.1f}" data-x="{}" data-y="{}" data-frame="{}"/>')
    ends = " ".join(f"{one:.2f}" for one in (frame.across(0), frame.across(1), frame.down(0), frame.down(1)))
    places = [
        point.format(kind, size, frame.across(served[x]), frame.down(served[y]), x, y, ends)
        for kind, size in (("served", 9), ("moved", 5.5))
    ]
    return Markup(str(drawn).replace("</svg>", f"{''.join(places)}</svg>"))


def _point(sight: Sight) -> dict[str, float]:
    """The operating point that the run stamped on its model."""
    for key in ("model", "blessing"):
        if key in sight.outputs:
            for path in sight.outputs[key].folder.glob("*/assets.extra/model.json"):
                return loaded(path)["operating_point"]
    return {}


def _whole(pair: tuple[str, float]) -> tuple[str, float | int]:
    """A count without its decimals."""
    name, value = pair
    return name, int(value) if float(value).is_integer() and abs(value) > 1 else value
