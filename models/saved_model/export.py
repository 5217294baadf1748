"""A trained model as a SavedModel that TensorFlow Serving loads, with three doors.

Question: A5
Answer: Tensors are values, operations compute them, variables hold state, and functions are graphs of operations that
    tf.function traces from Python. A SavedModel holds them all and names its doors: signatures. Sessions ran graphs in
    TensorFlow 1; in TensorFlow 2 functions are called directly, and sessions are left in tf.compat.v1 and inside the
    C++ server.
Evidence: tour.evidence.serving.saved_model_parts.parts
Proof: tests/tour/evidence/test_saved_model_parts.py::test_parts_of_a_saved_model_are_counted_as_tensorflow_loads_them
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from models.input import Transform
from models.saved_model.files import EXTRA, WEIGHTS


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

    Question: A23
    Answer: By Python's objects: a variable lives as long as something refers to it and is freed with the last
        reference. Modules, layers and models are trackables: their attributes form an object graph, along whose edges
        checkpoints and SavedModels find variables. A traced graph refers to its variables weakly, so their owner has to
        be kept. In TensorFlow 1 the session kept them, found by scope and name.
    Evidence: tour.evidence.serving.saved_model_parts.lifetimes
    Proof: tests/tour/evidence/test_saved_model_parts.py::test_a_variable_lives_as_long_as_its_owner_which_the_export_names

    Question: A24
    Answer: Operations are its nodes and tensors its edges. tf.function traces Python once for each input signature into
        a concrete function. As the whole is known, Grappler can inline, fold constants, drop what nothing needs and
        fuse: batch normalisation vanishes into convolutions. Branches and loops become If and While operations,
        gradients are a graph too, XLA can compile it, and it runs without Python.
    Evidence: tour.evidence.serving.saved_model_parts.optimised
    Proof: tests/tour/evidence/test_saved_model_parts.py::test_grappler_leaves_fewer_operations_and_folds_batch_normalisation
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
    _write_extra(Path(path), model, point, settings)


def _spec(name: str, shape: Sequence[int], dtype: tf.DType) -> tf.TensorSpec:
    """Batches of any size of an input, ``[batch, *shape]``.

    Question: A9
    Answer: A tf.Variable is state: it keeps its value between calls, is trained and is saved. A placeholder was an
        input that a session fed; it is left in tf.compat.v1 only, and raises in eager mode. Its job, naming shape and
        type of what a caller brings, is done by function arguments and tf.TensorSpec, as here for the inputs of each
        signature.
    Evidence: tour.evidence.serving.saved_model_parts.doors
    Proof: tests/tour/evidence/test_saved_model_parts.py::test_placeholders_fail_and_specs_take_their_place
    """
    return tf.TensorSpec([None, *shape], dtype, name=name)


def _write_extra(path: Path, model: keras.Model, point: Mapping[str, float], settings: Mapping[str, Any]) -> None:
    folder = path / EXTRA
    folder.mkdir(exist_ok=True)
    model.save_weights(folder / WEIGHTS)  # what a refresh begins from
    (folder / "model.json").write_text(
        json.dumps({"operating_point": dict(point), "settings": dict(settings)}, indent=1)
    )
