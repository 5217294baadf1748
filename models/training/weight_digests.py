"""Hashes that say whether two trained models are the same to the bit."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
SAVED = re.compile(r"variables/(\d+)/\.ATTRIBUTES/VARIABLE_VALUE")
# What a layer with dropout or augmentation counts up as it draws; a state, and none of the weights.
SEED_STATE = "seed_generator_state"


def weights_digest(model: keras.Model) -> str:
    """SHA-256 over all weights of a model, trained or not: what each is called, its type, shape and bytes.

    Weights come in the model's own order. Of its path only the last part counts: Keras numbers layers through a process
    (``dense_1``, ``dense_2``), so that the second of two equal models has other numbers.

    Question: B21
    Answer: Fix everything that decides the weights, and record it: one seed for Python, NumPy, TensorFlow and the
        shuffles; deterministic operations; content digest of the data; git commit; lock file; hyperparameters. The
        test is a second run with equal weight hashes. Determinism has a price: some operations fall back to slower
        kernels and input is read in order. Other hardware or another number of replicas rounds otherwise.
    Evidence: tour.evidence.experiment_tracking.reproducible
    Proof: tests/pipeline/tracking/test_comparison.py::test_trained_again_with_the_same_seed_the_weights_are_equal_to_the_bit
    """
    return _digest((one.path, keras.ops.convert_to_numpy(one.value)) for one in model.weights)


def saved_weights_digest(folder: Path) -> str:
    """The same hash from the variables of a SavedModel that :func:`models.saved_model.export.save` wrote, without its graph.

    Raises:
        ValueError: if the folder has no such variables.
    """
    try:
        reader = tf.train.load_checkpoint(str(Path(folder, "variables", "variables")))
    except (ValueError, tf.errors.OpError) as error:
        raise ValueError(f"{folder} has no variables of a SavedModel: {error}") from None
    keys = sorted((int(m[1]), key) for key in reader.get_variable_to_shape_map() if (m := SAVED.fullmatch(key)))
    if not keys:
        raise ValueError(f"{folder} holds no list of variables; it was not written by this project's export.")
    names = _names(reader.get_tensor(GRAPH))
    return _digest((names[key], reader.get_tensor(key)) for _, key in keys)


def _digest(weights: Iterable[tuple[str, np.ndarray]]) -> str:
    total = hashlib.sha256()
    for path, value in weights:
        name = path.rsplit("/", 1)[-1].split(":")[0]
        if name != SEED_STATE:
            total.update(f"{name} {value.dtype.name} {value.shape}\0".encode() + np.ascontiguousarray(value).tobytes())
    return total.hexdigest()


def _names(graph: bytes) -> dict[str, str]:
    """Full name of each variable by its key in the checkpoint."""
    nodes: Any = trackable_object_graph_pb2.TrackableObjectGraph.FromString(graph).nodes
    return {one.checkpoint_key: one.full_name for node in nodes for one in node.attributes}
