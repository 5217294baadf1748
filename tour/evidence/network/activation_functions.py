"""Evidence on activation functions: their values and slopes, and the units of the served network that never fire."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tour.evidence.context import Context
from tour.evidence.network.architecture import ROWS, input_rows
from tour.evidence.result_types import Number, Result, Series, Table

CURVE = np.linspace(-4, 4, 81).astype(np.float32)


def activations(context: Context) -> list[Result]:
    """A13: the activations of our networks with their derivatives, and the dead ReLU units of the served model."""
    values, slopes = activation_curves()
    rows = {name: tf.constant(value) for name, value in input_rows(context, ROWS, "eval").items()}
    units = dead_units(tf.saved_model.load(str(context.served)), rows)
    count, dead_count = sum(row[1] for row in units), sum(row[2] for row in units)
    title = f"ReLU units of the served model on {len(next(iter(rows.values())))} examples of eval"
    return [
        Series("Activation functions", "input", "output", values),
        Series("Derivatives of the activation functions, by GradientTape", "input", "derivative", slopes),
        Number("Dead ReLU units", dead_count, f"of {count}" + (f" ({dead_count / count:.1%})" if count else "")),
        Table(title, ("operation", "units", "dead", "share of zeros"), tuple(units)),
    ]


def activation_curves() -> tuple[dict[str, tuple[Any, ...]], dict[str, tuple[Any, ...]]]:
    """Points ``(x, f(x))`` and ``(x, f'(x))`` of ReLU, sigmoid, and softmax of three logits of which two are zero."""
    functions: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
        "relu": tf.nn.relu,
        "sigmoid": tf.sigmoid,
        "softmax of three, two at 0": lambda x: tf.nn.softmax(tf.stack([x, 0 * x, 0 * x], axis=1))[:, 0],
    }
    values, slopes, x = {}, {}, tf.constant(CURVE)
    for name, function in functions.items():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        values[name], slopes[name] = _points(y), _points(tape.gradient(y, x))
    return values, slopes


def dead_units(loaded: Any, rows: Mapping[str, tf.Tensor]) -> list[tuple[str, int, int, float]]:
    """For each ReLU of the ``dense`` signature: name, units, units that are zero for every row, and share of zeros.

    A unit of a convolution is a feature map: it is dead if it is zero at every position of every picture.
    """
    from tensorflow.python.framework import convert_to_constants

    frozen = convert_to_constants.convert_variables_to_constants_v2(
        loaded.signatures["dense"], lower_control_flow=False
    )
    relus = [op for op in frozen.graph.get_operations() if op.type == "Relu"]
    placeholders = [tensor for tensor in frozen.inputs if tensor.dtype != tf.resource]
    run = frozen.prune(placeholders, [op.outputs[0] for op in relus])
    arguments = [tf.cast(rows[tensor.name.split(":")[0]], tensor.dtype) for tensor in placeholders]
    rows_by_relu = []
    for op, output in zip(relus, run(*arguments), strict=True):
        active = output.numpy().reshape(-1, output.shape[-1]) > 0
        rows_by_relu.append(
            (_short(op.name), active.shape[1], int((~active.any(axis=0)).sum()), float(1 - active.mean()))
        )
    return rows_by_relu


def _points(values: tf.Tensor) -> tuple[tuple[float, float], ...]:
    return tuple(zip(CURVE.tolist(), values.numpy().tolist(), strict=True))


def _short(name: str) -> str:
    return "/".join(name.split("/")[-2:])
