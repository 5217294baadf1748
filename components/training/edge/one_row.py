"""The ``dense`` signature for runtimes that take one row and no 64-bit integers, such as LiteRT.js.

LiteRT.js reads the batch axis of a ``.tflite`` for any number of rows as size -1, and it has no int64 tensors.
"""

import tensorflow as tf


def save(path: str, target: str) -> None:
    """Write a copy of the SavedModel at ``path`` with one signature: ``dense`` for one row, int32 in place of int64."""
    module = tf.Module()
    module.loaded = tf.saved_model.load(
        path
    )  # an attribute of the module: a function does not keep its variables alive
    signature = module.loaded.signatures["dense"]
    specs = signature.structured_input_signature[1]

    @tf.function(input_signature=[{name: _narrow_spec(name, spec) for name, spec in specs.items()}])
    def dense(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return signature(**{name: tf.cast(value, specs[name].dtype) for name, value in inputs.items()})

    tf.saved_model.save(module, target, signatures={"dense": dense.get_concrete_function()})


def _narrow_spec(name: str, spec: tf.TensorSpec) -> tf.TensorSpec:
    dtype = tf.int32 if spec.dtype == tf.int64 else spec.dtype
    return tf.TensorSpec([1, *spec.shape[1:]], dtype, name=name)
