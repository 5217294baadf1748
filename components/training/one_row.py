"""The ``dense`` signature for runtimes that take one row and no 64-bit integer.

LiteRT.js is one: a ``.tflite`` for any number of rows has an axis of size -1 there, and int64 is no type of its tensors.
"""

import tensorflow as tf


def save(path: str, target: str) -> None:
    """Writes the SavedModel at ``path`` anew with one signature, ``dense`` of one row, int32 in place of int64."""
    module = tf.Module()
    module.loaded = tf.saved_model.load(path)  # held: a function keeps no variable alive
    wide = module.loaded.signatures["dense"]
    specs = wide.structured_input_signature[1]

    @tf.function(input_signature=[{name: _narrow(name, spec) for name, spec in specs.items()}])
    def dense(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return wide(**{name: tf.cast(value, specs[name].dtype) for name, value in inputs.items()})

    tf.saved_model.save(module, target, signatures={"dense": dense.get_concrete_function()})


def _narrow(name: str, spec: tf.TensorSpec) -> tf.TensorSpec:
    dtype = tf.int32 if spec.dtype == tf.int64 else spec.dtype
    return tf.TensorSpec([1, *spec.shape[1:]], dtype, name=name)
