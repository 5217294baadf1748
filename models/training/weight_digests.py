"""Digests of model weights, to check whether two trained models are identical bit by bit."""

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
# Counter of a layer with dropout or augmentation; it is generator state, not a weight.
SEED_STATE = "seed_generator_state"


def weights_digest(model: keras.Model) -> str:
    """SHA-256 over all weights of a model, trainable or not: name, type, shape and bytes of each.

    Weights are hashed in the model's order. Only the last part of a path counts: Keras numbers layers across a process
    (``dense_1``, ``dense_2``), so the second of two equal models has other numbers.

    Question: B21
    Answer: Fix everything that determines the weights, and record it: one seed for Python, NumPy, TensorFlow and the
        shuffles; deterministic operations; a content digest of the data; the git commit, lock file and hyperparameters.
        Then test it: a second run must give equal weight hashes. The price is speed: some operations use slower
        kernels, and input is read in order. The trap: other hardware or another number of replicas rounds differently.
    Evidence: tour.evidence.experiment_tracking.reproducibility
    Proof:
        tests/pipeline/tracking/test_comparison.py::test_trained_again_with_the_same_seed_the_weights_are_equal_to_the_bit
    """
    return _hash_weights((weight.path, keras.ops.convert_to_numpy(weight.value)) for weight in model.weights)


def saved_weights_digest(folder: Path) -> str:
    """The same digest from the variables of a SavedModel that :func:`models.saved_model.export.save` wrote.

    Raises:
        ValueError: if the folder has no such variables.
    """
    try:
        reader = tf.train.load_checkpoint(str(Path(folder, "variables", "variables")))
    except (ValueError, tf.errors.OpError) as error:
        raise ValueError(f"{folder} has no variables of a SavedModel: {error}") from None
    keys = sorted((int(match[1]), key) for key in reader.get_variable_to_shape_map() if (match := SAVED.fullmatch(key)))
    if not keys:
        raise ValueError(f"{folder} contains no list of variables; it was not written by this project's export.")
    names = _read_names(reader.get_tensor(GRAPH))
    return _hash_weights((names[key], reader.get_tensor(key)) for _, key in keys)


def _hash_weights(weights: Iterable[tuple[str, np.ndarray]]) -> str:
    total = hashlib.sha256()
    for path, value in weights:
        name = path.rsplit("/", 1)[-1].split(":")[0]
        if name != SEED_STATE:
            total.update(f"{name} {value.dtype.name} {value.shape}\0".encode() + np.ascontiguousarray(value).tobytes())
    return total.hexdigest()


def _read_names(graph: bytes) -> dict[str, str]:
    """Full name of each variable, by its key in the checkpoint."""
    nodes: Any = trackable_object_graph_pb2.TrackableObjectGraph.FromString(graph).nodes
    return {variable.checkpoint_key: variable.full_name for node in nodes for variable in node.attributes}
