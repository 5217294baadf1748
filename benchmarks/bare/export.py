"""Export of the SavedModel, a check that a server can load it, and its version folder."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import polars as pl
import tensorflow as tf

from benchmarks.bare.columns import IDS, LABEL, PASTS, SCALARS, Arrays, Tensors
from benchmarks.bare.preparation import Preparation
from models.fraud import model as network
from models.fraud.features import CATEGORIES, PAST

# As in components/training/serving_check.py, which imports TFX.
REQUESTS, TOLERANCE = 32, 1e-5


def export(
    path: Path, model: keras.Model, preparation: Preparation, point: Mapping[str, float], settings: Mapping[str, Any]
) -> None:
    """Write the SavedModel with the pipeline's three signatures: serialized examples, raw tensors, dense tensors."""
    shutil.rmtree(path, ignore_errors=True)
    spec, archive = _make_parsing_spec(), keras.export.ExportArchive()
    archive.track(model)
    archive.track(preparation)

    def dense(inputs: Tensors) -> Tensors:
        return network.answers(model({n: inputs[n] for n in network.INPUTS}, training=False), point, settings)

    def from_raw(inputs: Tensors) -> Tensors:
        return dense(preparation(inputs))

    def from_examples(examples: tf.Tensor) -> Tensors:
        return from_raw(tf.io.parse_example(examples, spec))

    raw = {name: tf.TensorSpec([None, *feature.shape], feature.dtype, name=name) for name, feature in spec.items()}
    inputs = {x.name: tf.TensorSpec(x.shape, x.dtype, name=x.name) for x in model.inputs}
    archive.add_endpoint("serving_default", from_examples, [tf.TensorSpec([None], tf.string, name="examples")])
    archive.add_endpoint("raw", from_raw, [raw])
    archive.add_endpoint("dense", dense, [inputs])
    archive.write_out(str(path), verbose=False)
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "model.json").write_text(json.dumps({"operating_point": point, "settings": settings}))


def _make_parsing_spec() -> dict[str, tf.io.FixedLenFeature]:
    """Return the parsing specification of a serialized example: all raw features except the label."""
    kinds = dict.fromkeys((*IDS, *CATEGORIES, "past_merchant"), tf.string) | {"event_time": tf.int64}
    return {
        name: tf.io.FixedLenFeature(
            [PAST if name in PASTS else 1], kinds.get(name, tf.float32), [""] if name in CATEGORIES else None
        )
        for name in (*SCALARS, *PASTS)
        if name != LABEL
    }


def serialize_rows(frame: pl.DataFrame, merchants: list[str]) -> np.ndarray:
    """Serialize rows as examples, ``[rows]``; codes of past merchants become names."""
    rows = []
    for row in frame.iter_rows(named=True):
        past = [merchants[code] if code >= 0 else "" for code in row["past_merchant"]]
        features = {
            name: _make_feature(spec.dtype, row | {"past_merchant": past}, name)
            for name, spec in _make_parsing_spec().items()
        }
        rows.append(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return np.array(rows, dtype=object)


def _make_feature(kind: tf.DType, row: Mapping[str, Any], name: str) -> tf.train.Feature:
    values = [value for value in (row[name] if name in PASTS else [row[name]]) if value is not None]
    if kind == tf.string:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode() for value in values]))
    if kind == tf.int64:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def check_session(path: Path, examples: np.ndarray, features: Arrays) -> None:
    """Compare every signature, loaded as TensorFlow Serving loads it, with the eagerly loaded one.

    Raises:
        ValueError: if an output differs by more than ``TOLERANCE``.
    """
    raw = {name: value.numpy() for name, value in tf.io.parse_example(examples, _make_parsing_spec()).items()}
    dense = {name: features[name][: len(examples)] for name in network.INPUTS}
    requests = {"serving_default": {"examples": examples}, "raw": raw, "dense": dense}
    eager = tf.saved_model.load(str(path)).signatures
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], str(path)).signature_def
        answers = {name: _run_session(session, loaded[name], values) for name, values in requests.items()}
    for name, values in requests.items():
        expected = eager[name](**{n: tf.constant(v) for n, v in values.items()})
        for output, value in expected.items():
            if not np.allclose(value.numpy(), answers[name][output], atol=TOLERANCE):
                raise ValueError(f"{name}/{output} differs by more than {TOLERANCE} when loaded as the server does.")


def _run_session(session: Any, signature: Any, values: Mapping[str, np.ndarray]) -> Arrays:
    feeds = {tensor.name: values[name] for name, tensor in signature.inputs.items()}
    return session.run({name: tensor.name for name, tensor in signature.outputs.items()}, feeds)


def push(model: Path, base: Path) -> Path:
    """Copy the model into the next version folder, which appears atomically."""
    base.mkdir(parents=True, exist_ok=True)
    version = base / str(1 + max((int(folder.name) for folder in base.iterdir() if folder.name.isdigit()), default=0))
    shutil.rmtree(base / ".incoming", ignore_errors=True)
    shutil.copytree(model, base / ".incoming")
    return (base / ".incoming").rename(version)
