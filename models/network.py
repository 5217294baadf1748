"""A case's network: built in the wanted precision, and asked for its answers."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

PREDICT_BATCH = 4096


def build(
    network: Any, settings: Mapping[str, Any], features: Mapping[str, tf.TensorSpec], pretrained: str = ""
) -> keras.Model:
    """The case's model; with ``mixed_precision`` its layers compute in bfloat16 and keep float32 weights.

    bfloat16 has float32's range, so that the loss needs no scaling, and is what TPUs and GPUs since Ampere multiply.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if settings["mixed_precision"] else "float32")
    try:
        return network.build(settings, features, pretrained)
    finally:
        keras.config.set_dtype_policy(before)


def predict(model: keras.Model, features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Logits of all rows, ``[rows, outputs]`` float32, in batches; inference mode.

    Question: B23
    Answer: Use it for what is called often with few signatures: training steps, prediction, what is exported. It hurts where
        each call brings a new Python number or shape and traces again, where the function is made anew in a loop, or for a
        call made once. Python side effects, such as print and append, happen while tracing only. Pass tensors, give an
        input_signature, count the traces.
    Evidence: tour.evidence.network.traced_functions.misused
    Proof: tests/tour/evidence/test_traced_functions.py::test_python_numbers_trace_each_time_and_tensors_once
    """
    call = _inference(model)
    rows = len(next(iter(features.values())))
    parts = [
        call({name: tf.constant(features[name][start : start + PREDICT_BATCH]) for name in model.input}).numpy()
        for start in range(0, rows, PREDICT_BATCH)
    ]
    return np.concatenate(parts)


def _inference(model: keras.Model) -> Callable[[Mapping[str, tf.Tensor]], tf.Tensor]:
    """The model as a compiled function that any batch size fits, kept with the model so that it is traced once.

    Question: B4
    Answer: A graph has operations as nodes and tensors as edges, so it can be optimised, distributed and exported without
        Python. tf.function runs the Python code once for each new input signature, records its operations and from then on
        runs the graph. New shapes or Python values trace again; an input_signature with None for the batch stops that.
        tf.py_function calls back into this process's Python: an export with it fails elsewhere.
    Evidence: tour.evidence.network.traced_functions.traced
    Proof: tests/tour/evidence/test_traced_functions.py::test_an_export_with_python_in_it_fails_in_another_process
    """
    if not hasattr(model, "_compiled_inference"):
        spec = {x.name: tf.TensorSpec([None, *x.shape[1:]], x.dtype) for x in model.inputs}
        model._compiled_inference = tf.function(
            lambda inputs: tf.cast(model(inputs, training=False), tf.float32), input_signature=[spec], autograph=False
        )
    return model._compiled_inference
