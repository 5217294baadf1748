"""Automatic differentiation: the tape's gradients against differences, and what a tape can do."""

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
from tour.evidence.training.one_step import Step

ROWS = 64
WIDTH = 1e-6  # of a central difference in float64: its error is of the order of the square
ROUNDS = 5
SECONDS = 0.2
Loss = Callable[[], tf.Tensor]


def gradients_checked(context: Context) -> list[Result]:
    """A4: each variable's gradient of the loss against central differences in float64, and what the tape costs."""
    loss, variables = doubled(context)
    rows = compared(loss, variables)
    forward, both, parameters = cost(steps.of(context))
    return [
        Table(
            f"Derivative of the loss on {ROWS} rows in one direction a variable, float64",
            ("variable", "shape", "tape", "central difference", "relative error"),
            rows,
        ),
        Number("Largest relative error", max(row[4] for row in rows)),
        Table(
            f"Time of a batch of {context.training['batch_size']}, compiled",
            ("what", "ms", "times the forward pass"),
            (("forward", forward, 1.0), ("forward and backward", both, both / forward)),
        ),
        Number("Gradient by central differences instead", 2 * parameters, "forward passes"),
    ]


def tape_shown(context: Context) -> list[Result]:
    """A12: one batch of the train split under a tape: norms by layer, a persistent tape, second derivatives, a stop."""
    step = steps.of(context)
    return [norms(step), persistent(step), *second(step), stopped(step)]


def custom_step(context: Context) -> list[Result]:
    """B12: the Trainer's step and the same step written out with a tape, from the same weights on the same batch."""
    mine, theirs = steps.of(context), steps.of(context)
    before = [variable.numpy() for variable in mine.model.trainable_variables]
    told = float(theirs.compiled()(theirs.stream()))
    with tf.GradientTape() as tape:
        loss = mine.mean_loss(learning=True)
    gradients = dense(tape.gradient(loss, mine.model.trainable_variables))
    mine.optimizer.apply(gradients, mine.model.trainable_variables)
    return [
        Table(
            "One step of the Trainer's optimizer",
            ("variable", "gradient's norm", "largest change", "written out against Trainer's"),
            tuple(_moved(mine.model, theirs.model, before, gradients)),
        ),
        Table("Loss of the batch", ("step", "loss"), (("Trainer's", told), ("written out", _penalised(mine, loss)))),
    ]


def doubled(context: Context) -> tuple[Loss, list[Any]]:
    """The loss of the served network on a few rows in float64, without dropout, and the weights it depends on."""
    single = steps.of(context, ROWS)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        told = restore.settings(str(context.served))
        model = single.network.build(told, context.transform.features, context.pretrained)
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


def compared(loss: Loss, variables: Sequence[Any]) -> tuple[tuple[str, str, float, float, float], ...]:
    """A row a variable: the derivative by the tape and by a central difference, in half the gradient's direction.

    The other half is random: along the gradient alone, an error orthogonal to it could not be seen.
    """
    with tf.GradientTape() as tape:
        value = loss()
    made, rows = np.random.default_rng(1), []
    for variable, gradient in zip(variables, tape.gradient(value, list(variables)), strict=True):
        gradient = np.asarray(tf.convert_to_tensor(gradient))
        random = made.normal(size=gradient.shape)
        norm = np.linalg.norm(gradient)
        direction = random / np.linalg.norm(random) + (gradient / norm if norm else 0)
        exact, near = float((gradient * direction).sum()), difference(loss, variable, direction)
        error = abs(exact - near) / max(abs(exact), abs(near), WIDTH)
        rows.append((_name(variable), str(tuple(variable.shape)), exact, near, error))
    return tuple(rows)


def difference(loss: Loss, variable: Any, direction: np.ndarray) -> float:
    """The central difference of the loss when the variable moves along ``direction``; it is put back."""
    kept, found = variable.numpy(), []
    for sign in (1, -1):
        variable.assign(kept + sign * WIDTH * direction)
        found.append(float(loss()))
    variable.assign(kept)
    return (found[0] - found[1]) / (2 * WIDTH)


def cost(step: Step) -> tuple[float, float, int]:
    """Milliseconds of the compiled forward pass, of forward and backward, and the number of trainable weights."""
    variables = step.model.trainable_variables

    @tf.function
    def forward() -> tf.Tensor:
        return step.mean_loss(learning=True)

    @tf.function
    def both() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = step.mean_loss(learning=True)
        return [tf.reduce_sum(tf.convert_to_tensor(one)) for one in tape.gradient(loss, variables)]

    first, second_ = interleaved([forward, both])
    return first, second_, sum(int(np.prod(variable.shape)) for variable in variables)


def interleaved(calls: Sequence[Callable[[], Any]]) -> list[float]:
    """Median milliseconds of each call after a first one, in turns, so that a disturbance meets all of them."""
    for call in calls:
        call()
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for call, kept in zip(calls, times, strict=True):
            ends = time.perf_counter() + SECONDS / ROUNDS
            while True:
                started = time.perf_counter()
                call()
                kept.append(1000 * (time.perf_counter() - started))
                if time.perf_counter() > ends:
                    break
    return [float(np.median(kept)) for kept in times]


def norms(step: Step) -> Table:
    """By layer: weights, norm of the gradient, norm of the weights."""
    with tf.GradientTape() as tape:
        loss = step.mean_loss(learning=True)
    variables = step.model.trainable_variables
    found = {id(one): value for one, value in zip(variables, dense(tape.gradient(loss, variables)), strict=True)}
    rows = []
    for layer in step.model.layers:
        own = layer.trainable_variables
        if own:
            gradient = float(tf.linalg.global_norm([found[id(one)] for one in own]))
            weights = float(tf.linalg.global_norm([one.value for one in own]))
            rows.append((layer.name, sum(int(np.prod(one.shape)) for one in own), gradient, weights))
    title = f"Gradient of the loss, {float(loss):.4f}, on a batch of {len(step.batch[step.label])}"
    return Table(title, ("layer", "weights", "norm of gradient", "norm of weights"), tuple(rows))


def persistent(step: Step) -> Table:
    """Two gradients from one tape: what a plain tape says to the second, and what a persistent one gives."""
    variables, rows = step.model.trainable_variables, []
    for keep in (False, True):
        with tf.GradientTape(persistent=keep) as tape:
            logits = step.model(step.inputs, training=False)
            loss, mean = tf.reduce_mean(step.loss(step.batch[step.label], logits)), tf.reduce_mean(logits)
        cells = []
        for target in (loss, mean):
            try:
                cells.append(f"norm {float(tf.linalg.global_norm(dense(tape.gradient(target, variables)))):.4g}")
            except RuntimeError as error:
                cells.append(f"{type(error).__name__}: {error}".split(". ")[0])
        rows.append(("persistent" if keep else "plain", *cells))
    return Table("Two gradients from one tape", ("tape", "of the loss", "then of the mean logit"), tuple(rows))


def second(step: Step) -> list[Result]:
    """The second derivative of the loss by the logits, a tape within a tape, against a difference of first ones."""
    truth = step.batch[step.label]
    truth = tf.cast(truth, tf.float64) if truth.dtype.is_floating else truth
    logits = tf.cast(step.model(step.inputs, training=False), tf.float64)
    direction = tf.constant(np.random.default_rng(2).normal(size=logits.shape))
    curved, near = curvature(step.loss, truth, logits, direction)
    rows = tuple((row, float(curved[row, 0]), float(near[row, 0])) for row in range(5))
    return [
        Table("Second derivative of the loss in one direction", ("row", "tape in a tape", "central difference"), rows),
        Number("Largest difference over the batch", float(np.abs(curved - near).max())),
    ]


def curvature(
    loss: Callable[[Any, Any], Any], truth: Any, logits: tf.Tensor, direction: tf.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """The Hessian of the summed loss times ``direction``, both ``[rows, outputs]``, from tapes and from differences."""

    def first(at: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as inner:
            inner.watch(at)
            value = tf.reduce_sum(loss(truth, at))
        return inner.gradient(value, at)

    with tf.GradientTape() as outer:
        outer.watch(logits)
        along = tf.reduce_sum(first(logits) * direction)
    near = (first(logits + WIDTH * direction) - first(logits - WIDTH * direction)) / (2 * WIDTH)
    return outer.gradient(along, logits).numpy(), near.numpy()


def stopped(step: Step) -> Table:
    """A scale on the logits fitted with and without ``stop_gradient``: with it, the network is told nothing."""
    scale, rows = tf.Variable(1.0), []
    variables = step.model.trainable_variables
    for stop in (False, True):
        with tf.GradientTape() as tape:
            logits = step.model(step.inputs, training=False)
            logits = tf.stop_gradient(logits) if stop else logits
            loss = tf.reduce_mean(step.loss(step.batch[step.label], logits * scale))
        own, *others = tape.gradient(loss, [scale, *variables])
        reached = dense([one for one in others if one is not None])
        told = f"norm {float(tf.linalg.global_norm(reached)):.4g}" if reached else "None for every variable"
        rows.append(("stop_gradient(logits)" if stop else "logits", float(own), told))
    return Table("Gradient of a loss on scaled logits", ("of", "by the scale", "by the network"), tuple(rows))


def dense(gradients: Sequence[Any]) -> list[tf.Tensor]:
    """Gradients as tensors: an embedding's comes as slices, in which a row that was read twice stands twice."""
    return [tf.convert_to_tensor(one) for one in gradients]


def _penalised(step: Step, loss: tf.Tensor) -> float:
    """The loss as the Trainer reports it, without the layers' penalties."""
    return float(loss) - float(sum(step.model.losses))


def _moved(mine: Any, theirs: Any, before: Sequence[np.ndarray], gradients: Sequence[tf.Tensor]) -> Any:
    pairs = zip(mine.trainable_variables, theirs.trainable_variables, before, gradients, strict=True)
    for own, other, old, gradient in pairs:
        change = np.abs(own.numpy() - old).max()
        apart = np.abs(own.numpy() - other.numpy()).max()
        yield _name(own), float(tf.linalg.global_norm(dense([gradient]))), float(change), float(apart)


def _name(variable: Any) -> str:
    return getattr(variable, "path", None) or variable.name
