"""Build the reference profile of a model before it is pushed, so that it travels in the SavedModel."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import Examples, Model, TransformGraph
from tfx.utils import path_utils

from models.catalog import find_use_case
from models.data.class_names import list_classes
from models.input import Transform, list_shards
from models.saved_model.files import EXTRA
from models.use_case import UseCase
from serving.drift.profiles.watched_columns import WatchedColumns
from serving.drift.profiles.windows import DAY
from serving.drift.reference import reference_profile
from serving.drift.reference.metric_estimate import MetricEstimate, MetricEstimator

BATCH = 4096


class NormalFiles(Artifact):
    """A folder with ``normal.json`` and ``baseline.json``, see :mod:`serving.drift.reference.reference_profile`."""

    TYPE_NAME = "Normal"


@component
def Normal(
    examples: InputArtifact[Examples],
    transform_graph: InputArtifact[TransformGraph],
    model: InputArtifact[Model],
    config: Parameter[str],
    normal: OutputArtifact[NormalFiles],
) -> None:
    """Profile inputs, scores, predicted classes and pixels of rows that training has not used, day by day.

    The rows come from the split ``normal`` if the case has one, else from ``eval``. A week of purchases is too short to
    estimate how days differ, and the profile needs no labels, so ``normal`` has all days after valid, those without
    mature labels too. The metric estimator needs labels and is fitted on ``eval``.
    """
    options = json.loads(config)
    case, path = find_use_case(options["case"]), path_utils.serving_model_path(model.uri)
    spec = {name: feature.dtype for name, feature in Transform(transform_graph.uri).raw.items()}
    source = "normal" if Path(examples.uri, "Split-normal").is_dir() else "eval"
    watched = build_watched(case, json.loads(Path(path, EXTRA, "model.json").read_text()))
    columns, scores = read_scored(list_shards(examples.uri, source), path, case, spec, watched.raw)
    frame, _ = watched.frame(columns, scores)
    days = np.array(columns[case.time], np.int64) // DAY if case.time else None
    estimator, estimate = estimate_metric(list_shards(examples.uri, "eval"), path, case, spec)
    reference_profile.fit(watched, case.explained, frame, days, estimator, estimate).save(Path(normal.uri))


def build_watched(case: UseCase, facts: dict[str, Any]) -> WatchedColumns:
    """The columns that drift monitoring watches, with the operating point and classes of ``model.json``."""
    explaining = {name: None for group in case.explained.values() for name in group if name not in case.watch}
    return WatchedColumns(
        features=case.watch,
        explaining=tuple(explaining),
        score=case.score,
        time=case.time,
        picture=case.picture,
        threshold=facts["operating_point"].get("threshold", 0.5),
        classes=tuple(list_classes(facts["settings"])),
    )


def estimate_metric(
    shards: list[str], path: str, case: UseCase, spec: dict[str, tf.DType]
) -> tuple[MetricEstimator, MetricEstimate]:
    """Fit the estimator of the headline metric on labelled rows; return it and the metric's value there."""
    columns, scores = read_scored(shards, path, case, spec, (case.label,))
    scores, truth = scores.reshape(len(scores), -1), np.array(columns[case.label])
    right = scores.argmax(axis=1) == truth if scores.shape[1] > 1 else truth
    return reference_profile.fit_estimator(case.headline, WatchedColumns.confidence(scores), right.astype(np.float64))


def read_scored(
    shards: list[str], path: str, case: UseCase, spec: dict[str, tf.DType], names: tuple[str, ...]
) -> tuple[dict[str, pl.Series], np.ndarray]:
    """Read raw features ``[n]`` by name, None for a missing value, and the exported model's scores ``[n, ...]``."""
    serve = tf.saved_model.load(path).signatures["serving_default"]
    ragged = {name: tf.io.RaggedFeature(spec[name]) for name in names}
    parts: dict[str, list[Any]] = {name: [] for name in names}
    scores: list[np.ndarray] = []
    for batch in tf.data.TFRecordDataset(shards).batch(BATCH):
        scores.append(serve(examples=batch)[case.score].numpy())
        for name, value in tf.io.parse_example(batch, ragged).items():
            parts[name] += _first_values(value)
    return {name: pl.Series(values, strict=False) for name, values in parts.items()}, np.concatenate(scores)


def _first_values(ragged: tf.RaggedTensor) -> Iterator[Any]:
    """The first value of every row, None where it has none."""
    values, starts = ragged.flat_values.numpy().tolist(), ragged.row_starts().numpy()
    lengths = ragged.row_lengths().numpy()
    return (values[start] if length else None for start, length in zip(starts, lengths, strict=True))
