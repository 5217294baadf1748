"""A trained model as a SavedModel that TensorFlow Serving loads, with three doors."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from models.input import Transform

# Files of ours beside the model, in the folder that TensorFlow Serving reserves for them.
EXTRA = "assets.extra"


def save(
    path: str,
    network: Any,
    model: keras.Model,
    transform: Transform,
    point: Mapping[str, float],
    settings: Mapping[str, Any],
) -> None:
    """Writes the model with its transform graph and three signatures.

    - ``serving_default``: serialized ``tf.Example`` as ``examples``, string ``[batch]``;
    - ``raw``: a tensor a raw feature, ``[batch, n]``, as JSON clients have them;
    - ``dense``: the transformed tensors, for the edge, where no string op runs.

    ``ExportArchive`` is used and not ``tf.saved_model.save(model)``: the session-style loader, TensorFlow Serving's, does
    not find a Keras 3 model's variables in the latter.
    """
    raw = {name: spec for name, spec in transform.raw.items() if name != network.LABEL}
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.track(transform.loader._imported)  # its tables have to be initialised by the loader

    def dense(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return network.answers(model({name: inputs[name] for name in network.INPUTS}, training=False), point, settings)

    def from_raw(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return dense(transform.apply(inputs))

    def from_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return from_raw(tf.io.parse_example(examples, raw))

    archive.add_endpoint("serving_default", from_examples, [tf.TensorSpec([None], tf.string, name="examples")])
    archive.add_endpoint("raw", from_raw, [{name: _spec(name, spec.shape, spec.dtype) for name, spec in raw.items()}])
    features = {
        name: _spec(name, transform.features[name].shape[1:], transform.features[name].dtype) for name in network.INPUTS
    }
    archive.add_endpoint("dense", dense, [features])
    archive.write_out(path, verbose=False)
    _write_extra(Path(path), point, settings)


def _spec(name: str, shape: Sequence[int], dtype: tf.DType) -> tf.TensorSpec:
    return tf.TensorSpec([None, *shape], dtype, name=name)


def _write_extra(path: Path, point: Mapping[str, float], settings: Mapping[str, Any]) -> None:
    folder = path / EXTRA
    folder.mkdir(exist_ok=True)
    (folder / "model.json").write_text(
        json.dumps({"operating_point": dict(point), "settings": dict(settings)}, indent=1)
    )
