"""The ``raw`` signature for LiteRT: preprocessing, look-up tables and network in one graph of built-in kernels.

With it, servers and devices answer raw rows without TensorFlow. The graph cannot have what LiteRT has no kernel for, such as
decoding a picture: such a case has LiteRT models from its transformed tensors on, which for pictures are the pixels.
"""

import re
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert_phase import ConverterError
from tensorflow.python.framework import convert_to_constants

from serving.edge.raw_model import SIGNATURE

UNKNOWN_WORD = b"in no vocabulary"
DEFAULTS: dict[tf.DType, Any] = {tf.string: "", tf.int64: 0, tf.float32: 0.0}
# How the converter names an operation without a kernel: its type, and its name in the graph.
MISSING = re.compile(r'error: loc\((?:callsite\()*fused\["(\w+):", "([^"@]+)[^\n]*neither a custom op nor a flex op')


class MissingKernelError(Exception):
    """The graph has operations for which LiteRT has no built-in kernel.

    Attributes:
        operations: Types of these operations, by their names in the graph.
    """

    def __init__(self, operations: Mapping[str, str]):
        super().__init__(f"LiteRT has no kernel for {', '.join(sorted(set(operations.values())))}")
        self.operations = operations


def convert_raw(path: str) -> bytes:
    """Convert the ``raw`` signature of the SavedModel at ``path`` to ``.tflite``, with float32 weights.

    Raises:
        MissingKernelError: if an operation has no built-in kernel.
    """
    with tempfile.TemporaryDirectory() as scratch:
        save_with_constant_tables(path, scratch)
        try:
            return tf.lite.TFLiteConverter.from_saved_model(scratch, signature_keys=[SIGNATURE]).convert()
        except ConverterError as error:
            operations = {name: kind for kind, name in MISSING.findall(str(error))}
            if not operations:
                raise
            raise MissingKernelError(operations) from None


def save_with_constant_tables(path: str, target: str) -> None:
    """Write a copy of the SavedModel at ``path`` with one signature, ``raw``, whose tables hold their words as constants.

    The tables of an export read their words from files whose paths are variables, which the converter does not follow. It
    would leave the tables empty without an error.
    """
    loaded = tf.saved_model.load(path)
    signature = loaded.signatures[SIGNATURE]
    frozen = convert_to_constants.convert_variables_to_constants_v2(
        signature, lower_control_flow=False, aggressive_inlining=True
    )
    module = tf.Module()
    module.tables = _copy_tables(signature, frozen)  # an attribute of the module, so that the copy contains them
    specs = signature.structured_input_signature[1]

    @tf.function(input_signature=[{name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in specs.items()}])
    def raw(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        tables = {name: tf.identity(table.resource_handle) for name, table in module.tables.items()}
        outputs = tf.graph_util.import_graph_def(
            frozen.graph.as_graph_def(),
            input_map={f"{name}:0": value for name, value in (inputs | tables).items()},
            return_elements=[tensor.name for tensor in frozen.outputs],
            name="",
        )
        # The outputs of a function are flattened in the order of their names.
        return dict(zip(sorted(signature.structured_outputs), outputs, strict=True))

    tf.saved_model.save(module, target, signatures={SIGNATURE: raw.get_concrete_function()})


def _copy_tables(signature: Any, frozen: Any) -> dict[str, tf.lookup.StaticHashTable]:
    """Copy the tables of a signature, by the names of the frozen graph's inputs for them; equal tables become one."""
    handles = {placeholder.op.name: handle for handle, placeholder in signature.graph.captures}
    tables: dict[str, tf.lookup.StaticHashTable] = {}
    by_content: dict[bytes, tf.lookup.StaticHashTable] = {}
    for name in (tensor.op.name for tensor in frozen.inputs if tensor.dtype == tf.resource):
        words, ids = tf.raw_ops.LookupTableExportV2(table_handle=handles[name], Tkeys=tf.string, Tvalues=tf.int64)
        order = tf.argsort(ids)
        words, ids = tf.gather(words, order), tf.gather(ids, order)
        content = tf.io.serialize_tensor(words).numpy()
        if content not in by_content:
            # The default of a look-up is an input of its operation, so that the table's own is never used.
            by_content[content] = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(words, ids), -1)
        tables[name] = by_content[content]
    return tables


def parse_raw(specs: Mapping[str, tf.TensorSpec], serialized: Any) -> dict[str, np.ndarray]:
    """Parse serialized examples, ``[rows]``, into the inputs of ``raw``; a missing value becomes the default of its type."""
    features = {
        name: tf.io.FixedLenFeature(spec.shape[1:], spec.dtype, [DEFAULTS[spec.dtype]] * int(np.prod(spec.shape[1:])))
        for name, spec in specs.items()
    }
    return {name: value.numpy() for name, value in tf.io.parse_example(serialized, features).items()}


def add_unseen_words(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the rows three times: as they are, with every string empty, and with a word that is in no vocabulary."""
    return {
        name: np.concatenate(
            [values, *(np.full_like(values, word) for word in (b"", UNKNOWN_WORD))]
            if values.dtype == object
            else [values] * 3
        )
        for name, values in rows.items()
    }
