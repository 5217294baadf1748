"""Baseline models on the features, split, slices and metric of the network, to show whether the network is worth it."""

import json
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import Examples, Model, ModelRun, TransformGraph
from tfx.utils import path_utils

from models.catalog import find_use_case
from models.evaluation import intervals, slices
from models.evaluation.baselines import BASELINES, FeatureTable
from models.evaluation.daily_reviews import ReviewedRows, measure_reviews
from models.input import Transform, list_shards, load

BATCH = 8192
NETWORK = "network"
PERFECT = "perfect ranking"


class Comparison(Artifact):
    """A folder with ``comparison.json``, the scores of all models, and the fitted baselines.

    ``comparison.json`` has a row for each model: metric with its interval, the metric of every slice, what daily reviews
    find, training seconds, size in bytes; and the difference between the network and the best baseline with its interval.
    The headline values are custom properties too, so that the metadata store can be queried for them.
    """

    TYPE_NAME = "Comparison"


@component
def Baseline(
    examples: InputArtifact[Examples],
    transform_graph: InputArtifact[TransformGraph],
    model: InputArtifact[Model],
    model_run: InputArtifact[ModelRun],
    config: Parameter[str],
    comparison: OutputArtifact[Comparison],
) -> None:
    """Train the baselines on the train split; score them and the network on eval, overall and by slice.

    Question: B6
    Answer: I let the data decide. On tabular data with engineered columns and up to millions of rows, start with
        logistic regression; boosted trees are hard to beat, train in seconds and are easier to explain. Deep learning
        pays when features must be learned, as from images, text, sequences or many categories, or when pretrained
        weights exist. The trap is comparing on different rows: here every run fits all of them on the same split and
        reports which wins.
    Evidence: tour.evidence.simple_models.deep_or_classic
    Proof: tests/components/training/test_baseline.py::test_run_reports_a_baseline_that_wins
    """
    options = json.loads(config)
    case, folder = find_use_case(options["case"]), Path(comparison.uri)
    network, capacity = case.load("model"), options.get("daily_reviews", 0)
    reviewed = (case.card, case.amount, case.time) if capacity else ()
    transform = Transform(transform_graph.uri)
    keep = (*network.INPUTS, network.LABEL)
    train, valid = (load(list_shards(examples.uri, split), transform, keep) for split in ("train", "valid"))
    eval_rows, columns = slices.read_split(
        list_shards(examples.uri, "eval"), transform, keep, [*slices.list_features(options["slices"]), *reviewed]
    )
    path = path_utils.serving_model_path(model.uri)
    trained = json.loads(Path(model_run.uri, "training.json").read_text())
    facts = {NETWORK: {"seconds": sum(curve["seconds"] for curve in trained["curves"]), "bytes": size(Path(path))}}
    scores = {NETWORK: score_export(network, path, eval_rows)}
    fits, fit_facts = fit_baselines(network, train, valid, eval_rows, scores[NETWORK].shape[1], folder)
    record = compare_models(
        network, scores | fits, facts | fit_facts, eval_rows[network.LABEL], options["slices"], columns
    )
    if capacity:
        rows = ReviewedRows.of(eval_rows[network.LABEL], *(columns[name] for name in reviewed))
        record["reviews"] = compare_reviews(rows, scores | fits, capacity)
    np.savez_compressed(folder / "scores.npz", allow_pickle=True, truth=eval_rows[network.LABEL], **scores, **fits)
    (folder / "comparison.json").write_text(json.dumps(record, indent=1))
    for name, value in properties(record).items():
        set_property = (
            comparison.set_string_custom_property if isinstance(value, str) else comparison.set_float_custom_property
        )
        set_property(name, value)


def fit_baselines(
    network: Any,
    train: Mapping[str, Any],
    valid: Mapping[str, Any],
    eval_rows: Mapping[str, Any],
    outputs: int,
    folder: Path,
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """Fit and save every baseline; return its scores of ``eval_rows``, ``[rows, outputs]``, and its costs."""
    tables = [FeatureTable.of(network.INPUTS, network.LABEL, part) for part in (train, valid, eval_rows)]
    scores, facts = {}, {}
    for name, fit in BASELINES.items():
        started = time.perf_counter()
        model = fit(*tables[:2])
        seconds = time.perf_counter() - started
        model.save(folder / slug(name))
        scores[name] = model.scores(tables[2].x, outputs)
        facts[name] = {"seconds": seconds, "bytes": size(folder / slug(name)), "settings": dict(model.settings)}
    return scores, facts


def compare_models(
    network: Any,
    scores: Mapping[str, np.ndarray],
    facts: Mapping[str, Mapping[str, Any]],
    truth: np.ndarray,
    specs: Sequence[Mapping[str, Any]],
    columns: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Compare all models on the same rows: overall, by slice, with intervals, and the network with the best baseline.

    Args:
        network: The case's model module, for the metric.
        scores: ``[rows, outputs]`` by model, the network among them.
        facts: Further columns of each model's row: seconds, bytes, settings.
        truth: Labels ``[rows, 1]``.
        specs: The Evaluator's slicing specs as JSON.
        columns: Text of the raw features that define slices, ``[rows]`` each.
    """
    resampled = intervals.resample_metric(network.MONITOR, network.quality, truth, scores)
    parts = slices.find_slices(specs, columns, len(truth))
    rows = [
        {
            "model": name,
            "metric": network.quality(truth, values)[network.MONITOR],
            "interval": intervals.interval(resampled[name]),
            **facts[name],
            "slices": [
                {"slice": key, "rows": len(at), "metric": _measure_slice(network, truth[at], values[at])}
                for key, at in parts.items()
            ],
        }
        for name, values in scores.items()
    ]
    by_name = {row["model"]: row["metric"] for row in rows}
    best = max((name for name in by_name if name != NETWORK), key=by_name.__getitem__)
    lead = {
        "over": best,
        "value": by_name[NETWORK] - by_name[best],
        "interval": intervals.interval(resampled[NETWORK] - resampled[best]),
    }
    return {
        "metric": network.MONITOR,
        "evaluated": len(truth),
        "level": intervals.LEVEL,
        "resamples": intervals.RESAMPLES,
        "rows": rows,
        "ahead": lead,
    }


def compare_reviews(rows: ReviewedRows, scores: Mapping[str, np.ndarray], capacity: int) -> dict[str, Any]:
    """Return what ``capacity`` reviews a day find, by model, and by a ranking that puts every positive first."""
    rankings = {name: values[:, 0] for name, values in scores.items()} | {PERFECT: rows.fraud.astype(float)}
    reviews = [{"model": name, **measure_reviews(rows, values, capacity)} for name, values in rankings.items()]
    return {"capacity": capacity, "days": len(np.unique(rows.days)), "rows": reviews}


def properties(result: Mapping[str, Any]) -> dict[str, str | float]:
    """Headline values, by names that are valid in the metadata store's query language."""
    lead = result["ahead"]
    return {
        "metric": result["metric"],
        "best": max(result["rows"], key=lambda row: row["metric"])["model"],
        **{slug(row["model"]): float(row["metric"]) for row in result["rows"]},
        "best_baseline": lead["over"],
        "ahead": float(lead["value"]),
        "ahead_low": float(lead["interval"][0]),
        "ahead_high": float(lead["interval"][1]),
    }


def score_export(network: Any, path: str, features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Scores of the exported network, ``[rows, outputs]``, from its ``dense`` signature."""
    signature, rows = tf.saved_model.load(path).signatures["dense"], len(features[network.LABEL])
    parts = []
    for start in range(0, rows, BATCH):
        answer = signature(**{name: tf.constant(features[name][start : start + BATCH]) for name in network.INPUTS})
        parts.append(answer[network.SCORE].numpy())
    return np.concatenate(parts).reshape(rows, -1)


def slug(name: str) -> str:
    """A model's name as used in file and property names, such as ``logistic_regression``."""
    return re.sub(r"\W+", "_", name.lower())


def size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else (path,)) if file.is_file())


def _measure_slice(network: Any, truth: np.ndarray, scores: np.ndarray) -> float | None:
    """The metric of a slice; None where it is undefined, as precision and recall are without a positive row."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            return network.quality(truth, scores)[network.MONITOR]
        except UserWarning:
            return None
