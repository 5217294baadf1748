"""What a model calls normal, counted before it is pushed, so that it travels with the model."""

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

from models.catalog import find
from models.input import Transform, files
from models.saved_model.files import EXTRA
from models.use_case import UseCase
from serving.drift.profiles.watched_columns import Watched
from serving.drift.profiles.windows import DAY
from serving.drift.reference import reference_profile as normals
from serving.drift.reference.metric_estimate import Estimate, Estimator

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
    """Profiles inputs, scores, predicted classes and pixels of rows that training has not looked at, a day at a time.

    They are the rows of ``normal`` where the case has them, else of ``eval``. The purchases of a week are too few to know
    what days differ by, and days whose labels are not ripe are as usual as others, so the case gives all days after valid.
    The estimator of the metric needs labels, hence ``eval``.
    """
    told = json.loads(config)
    case, path = find(told["case"]), path_utils.serving_model_path(model.uri)
    spec = {name: one.dtype for name, one in Transform(transform_graph.uri).raw.items()}
    source = "normal" if Path(examples.uri, "Split-normal").is_dir() else "eval"
    watched = watching(case, json.loads(Path(path, EXTRA, "model.json").read_text()))
    columns, scores = read(files(examples.uri, source), path, case, spec, watched.raw)
    frame, _ = watched.frame(columns, scores)
    days = np.array(columns[case.time], np.int64) // DAY if case.time else None
    estimator, usual = labelled(files(examples.uri, "eval"), path, case, spec)
    normals.fit(watched, case.explained, frame, days, estimator, usual).save(Path(normal.uri))


def watching(case: UseCase, told: dict[str, Any]) -> Watched:
    """Which columns a row of the case has, with the operating point and classes of ``model.json``."""
    by = {name: None for group in case.explained.values() for name in group if name not in case.watch}
    classes = told["settings"].get("classes", "")
    return Watched(
        features=case.watch,
        explaining=tuple(by),
        score=case.score,
        time=case.time,
        picture=case.picture,
        threshold=told["operating_point"].get("threshold", 0.5),
        classes=tuple(classes.split(",")) if classes else (),
    )


def labelled(shards: list[str], path: str, case: UseCase, spec: dict[str, tf.DType]) -> tuple[Estimator, Estimate]:
    """The estimator of the headline metric and its value, on labelled rows."""
    columns, scores = read(shards, path, case, spec, (case.label,))
    scores, truth = scores.reshape(len(scores), -1), np.array(columns[case.label])
    right = scores.argmax(axis=1) == truth if scores.shape[1] > 1 else truth
    return normals.measured(case.headline, Watched.confidence(scores), right.astype(np.float64))


def read(
    shards: list[str], path: str, case: UseCase, spec: dict[str, tf.DType], names: tuple[str, ...]
) -> tuple[dict[str, pl.Series], np.ndarray]:
    """Raw features ``[n]`` by name, None where a row has none, and the exported model's scores ``[n, ...]``."""
    serve = tf.saved_model.load(path).signatures["serving_default"]
    ragged = {name: tf.io.RaggedFeature(spec[name]) for name in names}
    parts: dict[str, list[Any]] = {name: [] for name in names}
    scores: list[np.ndarray] = []
    for batch in tf.data.TFRecordDataset(shards).batch(BATCH):
        scores.append(serve(examples=batch)[case.score].numpy())
        for name, value in tf.io.parse_example(batch, ragged).items():
            parts[name] += _first(value)
    return {name: pl.Series(values, strict=False) for name, values in parts.items()}, np.concatenate(scores)


def _first(ragged: tf.RaggedTensor) -> Iterator[Any]:
    """The first value of every row, None where it has none."""
    values, starts = ragged.flat_values.numpy().tolist(), ragged.row_starts().numpy()
    lengths = ragged.row_lengths().numpy()
    return (values[start] if length else None for start, length in zip(starts, lengths, strict=True))
