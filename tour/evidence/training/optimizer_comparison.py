"""Evidence on optimizers and learning rates: the trials of the run's Tuner, or a small comparison trained now."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.default_settings import OPTIMIZERS
from models.rows import Rows, specs
from models.training import optimizers as ours
from models.training.seeds import seed_everything
from tour.evidence.context import Context
from tour.evidence.result_types import Number, Result, Series, Table

ROWS, STEPS, BATCH, LAST = 4096, 40, 64, 10
RATES = (0.0003, 0.003, 0.03)


@dataclass(frozen=True)
class OptimizerTrial:
    """An optimizer at one learning rate: the outcome (lower is better) and the loss curve."""

    optimizer: str
    rate: float
    outcome: float
    curve: tuple[tuple[float, float], ...]


def optimizers(context: Context) -> list[Result]:
    """A11: optimizers at their best learning rates, the spread over rates and over optimizers, and the run's own choice."""
    if "Tuner" in context.outputs:
        report = json.loads((context.artifact("tuner_results") / "curves.json").read_text())
        return [
            *trial_results(read_tuner_trials(report), f"1 - {report['metric']} of the Tuner's trials"),
            run_choice(context),
        ]
    train = context.labelled_rows("train", ROWS)
    tried = compare_optimizers(context.network, context.training["settings"], train)
    return [*trial_results(tried, f"mean loss of the last {LAST} of {STEPS} steps, trained now"), run_choice(context)]


def run_choice(context: Context) -> Table:
    """The run's optimizer settings and its metric on the validation split."""
    training, settings = context.training, context.training["settings"]
    metric, value = next(iter(training["valid"].items()))
    names = ("optimizer", "schedule", "learning_rate", "weight_decay")
    row = (*(settings[name] for name in names), training["steps"], value)
    return Table("Settings and result of this run", (*names, "steps", f"{metric} on valid"), (row,))


def trial_results(tried: Sequence[OptimizerTrial], description: str) -> list[Result]:
    """Show the curves at each optimizer's best rate, the outcomes by optimizer and rate, and both spreads."""
    names = list(dict.fromkeys(trial.optimizer for trial in tried))
    rates = sorted({trial.rate for trial in tried})
    best = {
        name: min((trial for trial in tried if trial.optimizer == name), key=lambda trial: trial.outcome)
        for name in names
    }
    lines = {f"{name}, rate {trial.rate:.2g}": trial.curve for name, trial in best.items()}
    outcome = {(trial.optimizer, trial.rate): trial.outcome for trial in tried}
    rows = tuple((name, *(outcome.get((name, rate)) for rate in rates), best[name].rate) for name in names)
    over_rates, over_optimizers = spreads(tried)
    return [
        Series("Loss of each optimizer at its best rate", "epoch or step", "loss", lines),
        Table(
            f"Outcome: {description}; lower is better",
            ("optimizer", *(f"rate {rate:.2g}" for rate in rates), "best rate"),
            rows,
        ),
        Number("Spread of the outcome over learning rates, mean over the optimizers", over_rates),
        Number("Spread of the outcome over optimizers, each at its best rate", over_optimizers),
    ]


def spreads(tried: Sequence[OptimizerTrial]) -> tuple[float, float]:
    """Worst minus best outcome: over an optimizer's rates (mean over optimizers), and over optimizers at their best rates."""
    by_name: dict[str, list[float]] = {}
    for trial in tried:
        by_name.setdefault(trial.optimizer, []).append(trial.outcome)
    best = [min(outcomes) for outcomes in by_name.values()]
    return float(np.mean([max(outcomes) - min(outcomes) for outcomes in by_name.values()])), max(best) - min(best)


def read_tuner_trials(report: Mapping[str, Any]) -> list[OptimizerTrial]:
    """Trials of the Tuner that differ from the first in optimizer and rate only; a failed trial has the outcome 1."""

    def rest(trial: Mapping[str, Any]) -> dict[str, Any]:
        return {n: v for n, v in trial["settings"].items() if n not in ("optimizer", "learning_rate")}

    first = report["trials"][0]
    trials = []
    for trial in report["trials"]:
        settings = trial["settings"]
        if rest(trial) == rest(first) and {"optimizer", "learning_rate"} <= set(settings):
            curve = [
                (epoch + 1.0, values["loss"])
                for epoch, values in enumerate(trial["curves"])
                if values["loss"] is not None
            ]
            outcome = 1.0 if trial["error"] else 1.0 - trial["score"]
            trials.append(OptimizerTrial(settings["optimizer"], settings["learning_rate"], outcome, tuple(curve)))
    return trials


def compare_optimizers(
    network: Any, settings: Mapping[str, Any], train: Rows, rates: Sequence[float] = RATES
) -> list[OptimizerTrial]:
    """Train with every optimizer at every rate from the same weights on the same batches, in a few seconds.

    The gradient is traced once and the loop once per optimizer, as tracing takes most of the time.
    """
    seed_everything(settings)
    model, loss_fn = network.build(settings, specs(train)), network.loss(settings)
    start, variables = model.get_weights(), model.trainable_variables

    @tf.function
    def gradients(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                loss_fn(batch[network.LABEL], model({n: batch[n] for n in model.input}, training=True))
            )
        return loss, [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, variables)]

    count = len(train[network.LABEL])
    order = np.random.default_rng(settings["seed"]).integers(0, count, (STEPS, min(BATCH, count)))
    batches = {name: tf.constant(values[order]) for name, values in train.items()}
    outcomes = []
    for name in OPTIMIZERS:
        optimizer = ours.create({**settings, "optimizer": name, "schedule": "plateau"}, STEPS)
        optimizer.build(variables)
        initial, train_loop = (
            [variable.numpy() for variable in optimizer.variables],
            _loop(optimizer, gradients, variables),
        )
        for rate in rates:
            model.set_weights(start)
            for variable, value in zip(optimizer.variables, initial, strict=True):
                variable.assign(value)
            optimizer.learning_rate = rate
            outcomes.append(_smooth_losses(name, rate, train_loop(batches).numpy()))
    return outcomes


def _loop(optimizer: keras.optimizers.Optimizer, gradients: Any, variables: list[Any]) -> Any:
    """Compile a training loop: batches, ``[steps, batch, ...]`` per feature, to losses ``[steps]``."""

    @tf.function
    def run(batches: dict[str, tf.Tensor]) -> tf.Tensor:
        losses = tf.TensorArray(tf.float32, STEPS)
        for step in tf.range(STEPS):
            loss, step_gradients = gradients({name: values[step] for name, values in batches.items()})
            optimizer.apply(step_gradients, variables)
            losses = losses.write(step, loss)
        return losses.stack()

    return run


def _smooth_losses(name: str, rate: float, losses: np.ndarray) -> OptimizerTrial:
    """Smooth the losses over ``LAST`` steps; a diverged training counts as the untrained model."""
    smooth = np.convolve(losses, np.ones(LAST) / LAST, "valid")
    curve = tuple((float(step + LAST), float(loss)) for step, loss in enumerate(smooth) if math.isfinite(loss))
    outcome = min(float(smooth[-1]), float(losses[0])) if math.isfinite(smooth[-1]) else float(losses[0])
    return OptimizerTrial(name, rate, outcome, curve)
