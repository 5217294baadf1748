"""Simple models on the same features, the same split, slices and metric, so that the network has to earn its place."""

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

from models.catalog import find
from models.evaluation import intervals, slices
from models.evaluation.baselines import FITS, Table
from models.input import Transform, files, load

BATCH = 8192
NETWORK = "network"


class Comparison(Artifact):
    """A folder with ``comparison.json``, the scores of all models and the baselines themselves.

    ``comparison.json`` has a row a model: metric with its interval, the metric of every slice, training seconds, size in
    bytes; and the difference between the network and the best baseline with its interval. The headline values are custom
    properties too, so that the store can be asked for them.
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
    """Trains the simple models on the train split and scores them and the network on eval, overall and by slice.

    Question: B6
    Answer: By the data. On tables of engineered columns, with thousands to millions of rows, boosted trees and forests
        are hard to beat, train in seconds, need no tuning of rates and explain themselves; begin with logistic
        regression. Deep learning pays where features must be learnt: pictures, text, sequences, many categories, or when
        pretrained weights exist. So every run fits all of them on the same rows and says which one wins.
    Evidence: tour.evidence.simple_models.deep_or_classic
    Proof: tests/components/training/test_baseline.py::test_the_run_says_so_where_a_baseline_wins
    """
    told = json.loads(config)
    network, out = find(told["case"]).load("model"), Path(comparison.uri)
    transform = Transform(transform_graph.uri)
    keep = (*network.INPUTS, network.LABEL)
    train, valid = (load(files(examples.uri, split), transform, keep) for split in ("train", "valid"))
    held, columns = slices.read(files(examples.uri, "eval"), transform, keep, slices.names(told["slices"]))
    path = path_utils.serving_model_path(model.uri)
    trained = json.loads(Path(model_run.uri, "training.json").read_text())
    facts = {NETWORK: {"seconds": sum(curve["seconds"] for curve in trained["curves"]), "bytes": size(Path(path))}}
    scores = {NETWORK: answers(network, path, held)}
    fits, fit_facts = fitted(network, train, valid, held, scores[NETWORK].shape[1], out)
    found = compared(network, scores | fits, facts | fit_facts, held[network.LABEL], told["slices"], columns)
    np.savez_compressed(out / "scores.npz", allow_pickle=True, truth=held[network.LABEL], **scores, **fits)
    (out / "comparison.json").write_text(json.dumps(found, indent=1))
    for name, value in properties(found).items():
        kind = comparison.set_string_custom_property if isinstance(value, str) else comparison.set_float_custom_property
        kind(name, value)


def fitted(
    network: Any, train: Mapping[str, Any], valid: Mapping[str, Any], held: Mapping[str, Any], outputs: int, out: Path
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """Every baseline, fitted and saved under ``out``: its scores of ``held``, ``[rows, outputs]``, and what it took."""
    tables = [Table.of(network.INPUTS, network.LABEL, part) for part in (train, valid, held)]
    scores, facts = {}, {}
    for name, fit in FITS.items():
        started = time.perf_counter()
        model = fit(*tables[:2])
        seconds = time.perf_counter() - started
        model.save(out / slug(name))
        scores[name] = model.scores(tables[2].x, outputs)
        facts[name] = {"seconds": seconds, "bytes": size(out / slug(name)), "settings": dict(model.settings)}
    return scores, facts


def compared(
    network: Any,
    scores: Mapping[str, np.ndarray],
    facts: Mapping[str, Mapping[str, Any]],
    truth: np.ndarray,
    specs: Sequence[Mapping[str, Any]],
    columns: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """All models on the same rows: overall, by slice, with intervals, and the network against the best baseline.

    Args:
        network: The case's model module, for the metric.
        scores: ``[rows, outputs]`` by model, the network among them.
        facts: What else is told of each model.
        truth: Labels ``[rows, 1]``.
        specs: The Evaluator's slicing specs as JSON.
        columns: Text of the raw features that slices are cut by, ``[rows]`` each.
    """
    drawn = intervals.resampled(network.MONITOR, network.quality, truth, scores)
    parts = slices.cut(specs, columns, len(truth))
    rows = [
        {
            "model": name,
            "metric": network.quality(truth, values)[network.MONITOR],
            "interval": intervals.interval(drawn[name]),
            **facts[name],
            "slices": [
                {"slice": key, "rows": len(at), "metric": _quality(network, truth[at], values[at])}
                for key, at in parts.items()
            ],
        }
        for name, values in scores.items()
    ]
    by_name = {row["model"]: row["metric"] for row in rows}
    best = max((name for name in by_name if name != NETWORK), key=by_name.__getitem__)
    ahead = {
        "over": best,
        "value": by_name[NETWORK] - by_name[best],
        "interval": intervals.interval(drawn[NETWORK] - drawn[best]),
    }
    return {
        "metric": network.MONITOR,
        "evaluated": len(truth),
        "level": intervals.LEVEL,
        "resamples": intervals.RESAMPLES,
        "rows": rows,
        "ahead": ahead,
    }


def properties(found: Mapping[str, Any]) -> dict[str, str | float]:
    """Headline values by names that the store's query language takes."""
    ahead = found["ahead"]
    return {
        "metric": found["metric"],
        "best": max(found["rows"], key=lambda row: row["metric"])["model"],
        **{slug(row["model"]): float(row["metric"]) for row in found["rows"]},
        "best_baseline": ahead["over"],
        "ahead": float(ahead["value"]),
        "ahead_low": float(ahead["interval"][0]),
        "ahead_high": float(ahead["interval"][1]),
    }


def answers(network: Any, path: str, held: Mapping[str, np.ndarray]) -> np.ndarray:
    """Scores of the exported network, ``[rows, outputs]``, through its ``dense`` signature."""
    signature, rows = tf.saved_model.load(path).signatures["dense"], len(held[network.LABEL])
    parts = []
    for start in range(0, rows, BATCH):
        answer = signature(**{name: tf.constant(held[name][start : start + BATCH]) for name in network.INPUTS})
        parts.append(answer[network.SCORE].numpy())
    return np.concatenate(parts).reshape(rows, -1)


def slug(name: str) -> str:
    """A model's name as files and properties have it: ``logistic_regression``."""
    return re.sub(r"\W+", "_", name.lower())


def size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(one.stat().st_size for one in (path.rglob("*") if path.is_dir() else (path,)) if one.is_file())


def _quality(network: Any, truth: np.ndarray, scores: np.ndarray) -> float | None:
    """The metric of a slice; None where it has no meaning, as precision and recall without a positive row."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            return network.quality(truth, scores)[network.MONITOR]
        except UserWarning:
            return None
