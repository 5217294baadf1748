"""Build a use case's network with the configured precision, and compute its predictions."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

PREDICT_BATCH = 4096


def build(
    network: Any, settings: Mapping[str, Any], features: Mapping[str, tf.TensorSpec], pretrained: str = ""
) -> keras.Model:
    """Build the case's model; with ``mixed_precision`` its layers compute in bfloat16 and keep float32 weights.

    bfloat16 has the range of float32, so the loss needs no scaling; TPUs and GPUs since Ampere multiply it natively.
    """
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if settings["mixed_precision"] else "float32")
    try:
        return network.build(settings, features, pretrained)
    finally:
        keras.config.set_dtype_policy(previous)


def predict(model: keras.Model, features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Compute the logits of all rows, ``[rows, outputs]`` float32, in batches and inference mode.

    Question: B23
    Answer: Use tf.function for code that is called often with few signatures: training steps, prediction, exports. It
        hurts when every call brings a new Python number or shape and so traces again, when the function is created in a
        loop, or when it is called once. Python side effects such as print happen only while tracing. So pass tensors,
        set an input_signature and count traces; this evidence does the count.
    Evidence: tour.evidence.network.traced_functions.tracing_mistakes
    Proof: tests/tour/evidence/test_traced_functions.py::test_python_numbers_trace_each_time_and_tensors_once
    """
    infer = _compile_inference(model)
    rows = len(next(iter(features.values())))
    parts = [
        infer({name: tf.constant(features[name][start : start + PREDICT_BATCH]) for name in model.input}).numpy()
        for start in range(0, rows, PREDICT_BATCH)
    ]
    return np.concatenate(parts)


def _compile_inference(model: keras.Model) -> Callable[[Mapping[str, tf.Tensor]], tf.Tensor]:
    """Compile the model to a function for any batch size; it is stored on the model, so that it is traced once.

    Question: B4
    Answer: A TensorFlow graph has operations as nodes and tensors as edges, so it can be optimised, distributed and
        exported without Python. tf.function runs the Python code once for each new input signature, records the
        operations, and from then on runs the graph. New shapes or Python values trace again; an input_signature with
        None for the batch prevents that. The trap is tf.py_function: it calls this process's Python, so an export fails
        elsewhere.
    Evidence: tour.evidence.network.traced_functions.retracing
    Proof: tests/tour/evidence/test_traced_functions.py::test_an_export_with_python_in_it_fails_in_another_process
    """
    if not hasattr(model, "_compiled_inference"):
        spec = {tensor.name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype) for tensor in model.inputs}
        model._compiled_inference = tf.function(
            lambda inputs: tf.cast(model(inputs, training=False), tf.float32), input_signature=[spec], autograph=False
        )
    return model._compiled_inference
