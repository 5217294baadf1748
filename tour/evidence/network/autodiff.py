"""Evidence on automatic differentiation: gradients compared with central differences, their cost, and a step by hand."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.saved_model import restore
from tour.evidence.context import Context
from tour.evidence.result_types import Number, Result, Table
from tour.evidence.training import one_step as steps
from tour.evidence.training.one_step import TrainingStep

ROWS = 64
WIDTH = 1e-6  # step of a central difference in float64, whose error is of the order of the square
ROUNDS = 5
SECONDS = 0.2
Loss = Callable[[], tf.Tensor]


def gradients_checked(context: Context) -> list[Result]:
    """A4: the gradient of each variable compared with central differences in float64, and the cost of the tape."""
    loss, variables = loss_in_float64(context)
    rows = compare_gradients(loss, variables)
    forward, both, parameters = gradient_cost(steps.load_step(context))
    return [
        Table(
            f"Directional derivative of the loss on {ROWS} rows, one direction per variable, float64",
            ("variable", "shape", "tape", "central difference", "relative error"),
            rows,
        ),
        Number("Largest relative error", max(row[4] for row in rows)),
        Table(
            f"Time of a compiled pass over a batch of {context.training['batch_size']} rows",
            ("pass", "ms", "times the forward pass"),
            (("forward", forward, 1.0), ("forward and backward", both, both / forward)),
        ),
        Number("Cost of the gradient by central differences instead", 2 * parameters, "forward passes"),
    ]


def handwritten_step(context: Context) -> list[Result]:
    """B12: the Trainer's step compared with the same step written by hand, from the same weights on the same batch."""
    manual, trainer = steps.load_step(context), steps.load_step(context)
    before = [variable.numpy() for variable in manual.model.trainable_variables]
    trainer_loss = float(trainer.compiled()(trainer.stream()))
    with tf.GradientTape() as tape:
        loss = manual.mean_loss(learning=True)
    gradients = to_tensors(tape.gradient(loss, manual.model.trainable_variables))
    manual.optimizer.apply(gradients, manual.model.trainable_variables)
    return [
        Table(
            "One step, written by hand and by the Trainer",
            ("variable", "norm of gradient", "largest change", "largest difference from the Trainer's weights"),
            tuple(_weight_changes(manual.model, trainer.model, before, gradients)),
        ),
        Table(
            "Loss of the batch",
            ("step", "loss"),
            (("by the Trainer", trainer_loss), ("written by hand", _loss_without_penalties(manual, loss))),
        ),
    ]


def loss_in_float64(context: Context) -> tuple[Loss, list[Any]]:
    """Loss of the served network on a few rows in float64, without dropout, and the weights that it depends on."""
    single = steps.load_step(context, ROWS)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        settings = restore.read_settings(str(context.served))
        model = single.network.build(settings, context.transform.features, context.pretrained)
    finally:
        keras.config.set_dtype_policy(policy)
    for wide, narrow in zip(model.variables, single.model.variables, strict=True):
        wide.assign(tf.cast(narrow, wide.dtype))
    truth = single.batch[single.label]
    truth = tf.cast(truth, tf.float64) if truth.dtype.is_floating else truth
    inputs = single.inputs

    def loss() -> tf.Tensor:
        return tf.reduce_mean(single.loss(truth, model(inputs, training=False))) + sum(model.losses)

    return tf.function(loss), model.trainable_variables


def compare_gradients(loss: Loss, variables: Sequence[Any]) -> tuple[tuple[str, str, float, float, float], ...]:
    """One row per variable: a directional derivative by the tape and by a central difference.

    The direction is half gradient and half random: along the gradient alone, an orthogonal error would go unnoticed.
    """
    with tf.GradientTape() as tape:
        value = loss()
    generator, rows = np.random.default_rng(1), []
    for variable, gradient in zip(variables, tape.gradient(value, list(variables)), strict=True):
        gradient = np.asarray(tf.convert_to_tensor(gradient))
        noise = generator.normal(size=gradient.shape)
        norm = np.linalg.norm(gradient)
        direction = noise / np.linalg.norm(noise) + (gradient / norm if norm else 0)
        exact, approximation = float((gradient * direction).sum()), central_difference(loss, variable, direction)
        error = abs(exact - approximation) / max(abs(exact), abs(approximation), WIDTH)
        rows.append((_name(variable), str(tuple(variable.shape)), exact, approximation, error))
    return tuple(rows)


def central_difference(loss: Loss, variable: Any, direction: np.ndarray) -> float:
    """Central difference of the loss as the variable moves along ``direction``; the variable's value is restored."""
    original, losses = variable.numpy(), []
    for sign in (1, -1):
        variable.assign(original + sign * WIDTH * direction)
        losses.append(float(loss()))
    variable.assign(original)
    return (losses[0] - losses[1]) / (2 * WIDTH)


def gradient_cost(step: TrainingStep) -> tuple[float, float, int]:
    """Milliseconds of the compiled forward pass and of forward plus backward pass, and the number of trainable weights."""
    variables = step.model.trainable_variables

    @tf.function
    def forward() -> tf.Tensor:
        return step.mean_loss(learning=True)

    @tf.function
    def both() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = step.mean_loss(learning=True)
        return [tf.reduce_sum(tf.convert_to_tensor(gradient)) for gradient in tape.gradient(loss, variables)]

    forward_time, both_time = time_interleaved([forward, both])
    return forward_time, both_time, sum(int(np.prod(variable.shape)) for variable in variables)


def time_interleaved(calls: Sequence[Callable[[], Any]]) -> list[float]:
    """Median milliseconds of each call, not counting the first; interleaved, so that a disturbance affects all calls."""
    for call in calls:
        call()
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for call, durations in zip(calls, times, strict=True):
            ends = time.perf_counter() + SECONDS / ROUNDS
            while True:
                started = time.perf_counter()
                call()
                durations.append(1000 * (time.perf_counter() - started))
                if time.perf_counter() > ends:
                    break
    return [float(np.median(durations)) for durations in times]


def gradient_norms(step: TrainingStep) -> Table:
    """Number of weights, norm of the gradient and norm of the weights, by layer."""
    with tf.GradientTape() as tape:
        loss = step.mean_loss(learning=True)
    variables = step.model.trainable_variables
    gradients = to_tensors(tape.gradient(loss, variables))
    by_variable = {id(variable): value for variable, value in zip(variables, gradients, strict=True)}
    rows = []
    for layer in step.model.layers:
        own = layer.trainable_variables
        if own:
            gradient = float(tf.linalg.global_norm([by_variable[id(variable)] for variable in own]))
            weights = float(tf.linalg.global_norm([variable.value for variable in own]))
            rows.append((layer.name, sum(int(np.prod(variable.shape)) for variable in own), gradient, weights))
    title = f"Gradient of the loss ({float(loss):.4f}) on a batch of {len(step.batch[step.label])} rows"
    return Table(title, ("layer", "weights", "norm of gradient", "norm of weights"), tuple(rows))


def to_tensors(gradients: Sequence[Any]) -> list[tf.Tensor]:
    """Convert gradients to tensors: an embedding's gradient consists of slices, which may list a row several times."""
    return [tf.convert_to_tensor(gradient) for gradient in gradients]


def _loss_without_penalties(step: TrainingStep, loss: tf.Tensor) -> float:
    """Loss as the Trainer reports it, without the penalties of the layers."""
    return float(loss) - float(sum(step.model.losses))


def _weight_changes(manual: Any, trainer: Any, before: Sequence[np.ndarray], gradients: Sequence[tf.Tensor]) -> Any:
    pairs = zip(manual.trainable_variables, trainer.trainable_variables, before, gradients, strict=True)
    for own, other, start, gradient in pairs:
        change = np.abs(own.numpy() - start).max()
        deviation = np.abs(own.numpy() - other.numpy()).max()
        yield _name(own), float(tf.linalg.global_norm(to_tensors([gradient]))), float(change), float(deviation)


def _name(variable: Any) -> str:
    return getattr(variable, "path", None) or variable.name
