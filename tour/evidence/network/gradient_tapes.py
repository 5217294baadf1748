"""Evidence on gradient tapes: persistent tapes, second derivatives and stop_gradient, on the network of the run."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tour.evidence.context import Context
from tour.evidence.network.autodiff import WIDTH, gradient_norms, to_tensors
from tour.evidence.result_types import Number, Result, Table
from tour.evidence.training import one_step as steps
from tour.evidence.training.one_step import TrainingStep


def gradient_tape(context: Context) -> list[Result]:
    """A12: gradient norms by layer, a persistent tape, second derivatives and ``stop_gradient``, on one batch of train."""
    step = steps.load_step(context)
    return [gradient_norms(step), persistent_tape(step), *second_derivative(step), stopped_gradient(step)]


def persistent_tape(step: TrainingStep) -> Table:
    """Compute two gradients from one tape: a plain tape raises an error for the second, a persistent one does not."""
    variables, rows = step.model.trainable_variables, []
    for keep in (False, True):
        with tf.GradientTape(persistent=keep) as tape:
            logits = step.model(step.inputs, training=False)
            loss, mean = tf.reduce_mean(step.loss(step.batch[step.label], logits)), tf.reduce_mean(logits)
        cells = []
        for target in (loss, mean):
            try:
                cells.append(f"norm {float(tf.linalg.global_norm(to_tensors(tape.gradient(target, variables)))):.4g}")
            except RuntimeError as error:
                cells.append(f"{type(error).__name__}: {error}".split(". ")[0])
        rows.append(("persistent" if keep else "plain", *cells))
    return Table(
        "Two gradients from one tape", ("tape", "first: of the loss", "second: of the mean logit"), tuple(rows)
    )


def second_derivative(step: TrainingStep) -> list[Result]:
    """Compare the second derivative of the loss by the logits, from nested tapes, with a difference of first derivatives."""
    truth = step.batch[step.label]
    truth = tf.cast(truth, tf.float64) if truth.dtype.is_floating else truth
    logits = tf.cast(step.model(step.inputs, training=False), tf.float64)
    direction = tf.constant(np.random.default_rng(2).normal(size=logits.shape))
    exact, approximation = hessian_product(step.loss, truth, logits, direction)
    rows = tuple((row, float(exact[row, 0]), float(approximation[row, 0])) for row in range(5))
    return [
        Table("Second derivative of the loss in one direction", ("row", "nested tapes", "central difference"), rows),
        Number(
            "Largest difference between second derivatives over the batch", float(np.abs(exact - approximation).max())
        ),
    ]


def hessian_product(
    loss: Callable[[Any, Any], Any], truth: Any, logits: tf.Tensor, direction: tf.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Hessian of the summed loss times ``direction``, ``[rows, outputs]``: from nested tapes and from central differences."""

    def first(point: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as inner:
            inner.watch(point)
            value = tf.reduce_sum(loss(truth, point))
        return inner.gradient(value, point)

    with tf.GradientTape() as outer:
        outer.watch(logits)
        along = tf.reduce_sum(first(logits) * direction)
    approximation = (first(logits + WIDTH * direction) - first(logits - WIDTH * direction)) / (2 * WIDTH)
    return outer.gradient(along, logits).numpy(), approximation.numpy()


def stopped_gradient(step: TrainingStep) -> Table:
    """Gradient through scaled logits with and without ``stop_gradient``, which keeps it from reaching the network."""
    scale, rows = tf.Variable(1.0), []
    variables = step.model.trainable_variables
    for stop in (False, True):
        with tf.GradientTape() as tape:
            logits = step.model(step.inputs, training=False)
            logits = tf.stop_gradient(logits) if stop else logits
            loss = tf.reduce_mean(step.loss(step.batch[step.label], logits * scale))
        own, *others = tape.gradient(loss, [scale, *variables])
        gradients = to_tensors([gradient for gradient in others if gradient is not None])
        network_gradient = (
            f"norm {float(tf.linalg.global_norm(gradients)):.4g}" if gradients else "None for every variable"
        )
        rows.append(("stop_gradient(logits)" if stop else "logits", float(own), network_gradient))
    return Table(
        "Gradient of a loss on scaled logits",
        ("scaled value", "gradient of the scale", "gradient of the network's weights"),
        tuple(rows),
    )
