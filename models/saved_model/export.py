"""Export a trained model as a SavedModel with three signatures, which TensorFlow Serving loads.

Question: A5
Answer: The main parts are tensors, which are values; operations, which compute them; variables, which hold state; and
    functions, which are graphs that tf.function traces from Python. A SavedModel contains all of them and exposes
    functions as signatures. In TensorFlow 1 a session ran the graph; in TensorFlow 2 you call functions directly, and
    sessions remain only in tf.compat.v1 and inside the C++ server. Here the export's parts are counted.
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
    """Write the model with its transform graph and three signatures.

    - ``serving_default``: serialized ``tf.Example`` as ``examples``, string ``[batch]``;
    - ``raw``: one tensor for each raw feature, ``[batch, n]``, as JSON clients send them;
    - ``dense``: the transformed tensors, for the edge, where string ops are not available.

    It uses ``ExportArchive``, not ``tf.saved_model.save(model)``: TensorFlow Serving's session-style loader does not
    find a Keras 3 model's variables in the latter.

    Question: A23
    Answer: TensorFlow 2 manages variables through Python objects: a variable lives as long as something references it.
        Modules, layers and models are trackable, so their attributes form an object graph, and checkpoints and
        SavedModels find variables along its edges. The trap: a traced function references variables weakly, so you must
        keep their owner alive. In TensorFlow 1 the session held variables, found by scope and name.
    Evidence: tour.evidence.serving.saved_model_parts.lifetimes
    Proof:
        tests/tour/evidence/test_saved_model_parts.py::test_a_variable_lives_as_long_as_its_owner_which_the_export_names

    Question: A24
    Answer: A dataflow graph has operations as nodes and tensors as edges. tf.function traces Python into a concrete
        function for each input signature. Because the whole graph is known, Grappler can inline functions, fold
        constants, prune unused operations and fuse others; batch normalisation is folded into convolutions. Branches
        and loops become If and While operations. It can be differentiated, compiled by XLA and run without Python. Here
        operations before and after optimisation are counted.
    Evidence: tour.evidence.serving.grappler.grappler_optimization
    Proof:
        tests/tour/evidence/test_saved_model_parts.py::test_grappler_leaves_fewer_operations_and_folds_batch_normalisation
    """
    raw = {name: spec for name, spec in transform.raw.items() if name != network.LABEL}
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.track(transform.loader._imported)  # tracked so that the loader initialises its lookup tables

    def dense(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return network.answers(model({name: inputs[name] for name in network.INPUTS}, training=False), point, settings)

    def from_raw(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return dense(transform.apply(inputs))

    def from_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return from_raw(tf.io.parse_example(examples, raw))

    archive.add_endpoint("serving_default", from_examples, [tf.TensorSpec([None], tf.string, name="examples")])
    archive.add_endpoint(
        "raw", from_raw, [{name: _batch_spec(name, spec.shape, spec.dtype) for name, spec in raw.items()}]
    )
    features = {
        name: _batch_spec(name, transform.features[name].shape[1:], transform.features[name].dtype)
        for name in network.INPUTS
    }
    archive.add_endpoint("dense", dense, [features])
    archive.write_out(path, verbose=False)
    _write_extra(Path(path), model, point, settings)


def _batch_spec(name: str, shape: Sequence[int], dtype: tf.DType) -> tf.TensorSpec:
    """Spec of an input for batches of any size, ``[batch, *shape]``.

    Question: A9
    Answer: A tf.Variable is state: it keeps its value between calls, is trained and is saved. A placeholder was an
        input that a TensorFlow 1 session fed; it exists only in tf.compat.v1 and raises an error in eager mode. Today
        function arguments and tf.TensorSpec do its job of declaring shape and type, as here for the inputs of each
        signature.
    Evidence: tour.evidence.serving.saved_model_parts.variables_and_inputs
    Proof: tests/tour/evidence/test_saved_model_parts.py::test_placeholders_fail_and_specs_take_their_place
    """
    return tf.TensorSpec([None, *shape], dtype, name=name)


def _write_extra(path: Path, model: keras.Model, point: Mapping[str, float], settings: Mapping[str, Any]) -> None:
    folder = path / EXTRA
    folder.mkdir(exist_ok=True)
    model.save_weights(folder / WEIGHTS)  # a refresh starts from these
    (folder / "model.json").write_text(
        json.dumps({"operating_point": dict(point), "settings": dict(settings)}, indent=1)
    )
