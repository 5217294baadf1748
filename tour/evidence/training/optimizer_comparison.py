"""Optimizers and learning rates side by side: what the Tuner of the run found, or a small comparison made now."""

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
class Tried:
    """One optimizer at one rate: how it ended (less is better) and the loss on the way."""

    optimizer: str
    rate: float
    outcome: float
    curve: tuple[tuple[float, float], ...]


def optimizers(context: Context) -> list[Result]:
    """A11: five optimizers at their best rates, the spread over rates beside that over optimizers, and the run's own choice."""
    if "Tuner" in context.outputs:
        report = json.loads((context.artifact("tuner_results") / "curves.json").read_text())
        return [*shown(searched(report), f"1 - {report['metric']} in the Tuner's trials"), chosen(context)]
    network = context.case.load("model")
    train = context.rows("train", (*network.INPUTS, network.LABEL), ROWS)
    tried = compared(network, context.training["settings"], train)
    return [*shown(tried, f"mean loss of the last {LAST} of {STEPS} steps, trained now"), chosen(context)]


def chosen(context: Context) -> Table:
    """What the run trained with, and what it reached on valid."""
    told, settings = context.training, context.training["settings"]
    metric, reached = next(iter(told["valid"].items()))
    names = ("optimizer", "schedule", "learning_rate", "weight_decay")
    row = (*(settings[name] for name in names), told["steps"], reached)
    return Table("The run itself", (*names, "steps", f"{metric} on valid"), (row,))


def shown(tried: Sequence[Tried], what: str) -> list[Result]:
    """Curves at each optimizer's best rate, the outcomes by optimizer and rate, and both spreads."""
    names = list(dict.fromkeys(one.optimizer for one in tried))
    rates = sorted({one.rate for one in tried})
    best = {name: min((one for one in tried if one.optimizer == name), key=lambda one: one.outcome) for name in names}
    lines = {f"{name}, rate {one.rate:.2g}": one.curve for name, one in best.items()}
    outcome = {(one.optimizer, one.rate): one.outcome for one in tried}
    rows = tuple((name, *(outcome.get((name, rate)) for rate in rates), best[name].rate) for name in names)
    over_rates, over_optimizers = spreads(tried)
    return [
        Series("Loss of each optimizer at its best rate", "epoch or step", "loss", lines),
        Table(f"Outcome: {what}; less is better", ("optimizer", *(f"rate {r:.2g}" for r in rates), "best rate"), rows),
        Number("spread over rates, mean over the optimizers", over_rates),
        Number("spread over optimizers, each at its best rate", over_optimizers),
    ]


def spreads(tried: Sequence[Tried]) -> tuple[float, float]:
    """Worst less best outcome: over the rates of an optimizer, on average, and over optimizers at their best rates."""
    by_name: dict[str, list[float]] = {}
    for one in tried:
        by_name.setdefault(one.optimizer, []).append(one.outcome)
    best = [min(found) for found in by_name.values()]
    return float(np.mean([max(found) - min(found) for found in by_name.values()])), max(best) - min(best)


def searched(report: Mapping[str, Any]) -> list[Tried]:
    """The Tuner's first trials, which differ in optimizer and rate alone; one that failed learnt nothing, outcome 1."""

    def rest(trial: Mapping[str, Any]) -> dict[str, Any]:
        return {n: v for n, v in trial["settings"].items() if n not in ("optimizer", "learning_rate")}

    first = report["trials"][0]
    found = []
    for trial in report["trials"]:
        told = trial["settings"]
        if rest(trial) == rest(first) and {"optimizer", "learning_rate"} <= set(told):
            curve = [(epoch + 1.0, one["loss"]) for epoch, one in enumerate(trial["curves"]) if one["loss"] is not None]
            outcome = 1.0 if trial["error"] else 1.0 - trial["score"]
            found.append(Tried(told["optimizer"], told["learning_rate"], outcome, tuple(curve)))
    return found


def compared(network: Any, settings: Mapping[str, Any], train: Rows, rates: Sequence[float] = RATES) -> list[Tried]:
    """Every optimizer at every rate from the same weights over the same batches; all in a few seconds.

    The gradient is traced once and the loop once an optimizer: tracing is what takes the time.
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
        return loss, [tf.convert_to_tensor(one) for one in tape.gradient(loss, variables)]

    count = len(train[network.LABEL])
    order = np.random.default_rng(settings["seed"]).integers(0, count, (STEPS, min(BATCH, count)))
    batches = {name: tf.constant(values[order]) for name, values in train.items()}
    found = []
    for name in OPTIMIZERS:
        optimizer = ours.create({**settings, "optimizer": name, "schedule": "plateau"}, STEPS)
        optimizer.build(variables)
        fresh, run = [variable.numpy() for variable in optimizer.variables], _loop(optimizer, gradients, variables)
        for rate in rates:
            model.set_weights(start)
            for variable, value in zip(optimizer.variables, fresh, strict=True):
                variable.assign(value)
            optimizer.learning_rate = rate
            found.append(_tried(name, rate, run(batches).numpy()))
    return found


def _loop(optimizer: keras.optimizers.Optimizer, gradients: Any, variables: list[Any]) -> Any:
    """A compiled training over batches ``[steps, batch, ...]`` a feature, to the losses ``[steps]``."""

    @tf.function
    def run(batches: dict[str, tf.Tensor]) -> tf.Tensor:
        losses = tf.TensorArray(tf.float32, STEPS)
        for step in tf.range(STEPS):
            loss, found = gradients({name: values[step] for name, values in batches.items()})
            optimizer.apply(found, variables)
            losses = losses.write(step, loss)
        return losses.stack()

    return run


def _tried(name: str, rate: float, losses: np.ndarray) -> Tried:
    """The outcome, and the losses as means of so many steps; what diverged has learnt no more than the untrained model."""
    smooth = np.convolve(losses, np.ones(LAST) / LAST, "valid")
    curve = tuple((float(step + LAST), float(loss)) for step, loss in enumerate(smooth) if math.isfinite(loss))
    outcome = min(float(smooth[-1]), float(losses[0])) if math.isfinite(smooth[-1]) else float(losses[0])
    return Tried(name, rate, outcome, curve)
