"""Refining with little memory: adapters on the served network, and what the benchmark of refreshes measured."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from models.network import predict
from models.saved_model import restore
from models.training import adapters, optimizers
from models.training.adapters import trainable
from models.training.seeds import seed_everything
from models.training.step import step_function
from tour.evidence.benchmark_reports import tables
from tour.evidence.context import Context
from tour.evidence.result_types import Result, Table

STEPS, BATCH = 30, 256
FLOAT = 4  # bytes


def adapters_measured(context: Context) -> list[Result]:
    """B20: weights and optimizer state with and without adapters, a few steps of each now, and the benchmarks."""
    ranks = {"all weights": 0, **{f"adapters of rank {rank}": rank for rank in (1, 4)}}
    rows = tuple((name, *_few_steps(context, rank)) for name, rank in ranks.items())
    columns = ("trained", "weights to train", "of all", "gradients and optimizer, bytes", "loss before", "loss after")
    title = f"{STEPS} steps of {BATCH} rows on the served network, now"
    return [Table(title, columns, rows), *tables("refresh", "refresh"), *tables("strategies", "switches")]


def _few_steps(context: Context, rank: int) -> tuple[Any, ...]:
    """Weights to train, their share, bytes that training adds to them, and the loss before and after."""
    network = context.case.load("model")
    settings = {**restore.settings(str(context.served)), "accumulate": 1, "xla": False, "schedule": "plateau"}
    settings["learning_rate"] = 0.1 * settings["learning_rate"]
    seed_everything({**settings, "deterministic": False})
    model = restore.model(str(context.served), network, context.transform, context.pretrained)
    whole = trainable(model)
    count = adapters.add(model, rank) if rank else whole
    optimizer = optimizers.create(settings, STEPS)
    optimizer.build(model.trainable_variables)
    state = sum(int(np.prod(one.shape)) for one in optimizer.variables) + count
    rows = context.rows("valid", (*network.INPUTS, network.LABEL), BATCH)
    loss = _loss(network, settings, model, rows)
    step = step_function(
        tf.distribute.get_strategy(),
        model,
        optimizer,
        network.loss(settings),
        network.LABEL,
        len(rows[network.LABEL]),
        settings,
    )
    before, stream = loss(), iter(tf.data.Dataset.from_tensors(rows).repeat())
    for _ in range(STEPS):
        step(stream)
    return count, round(count / whole, 4), state * FLOAT, before, loss()


def _loss(network: Any, settings: dict[str, Any], model: Any, rows: dict[str, np.ndarray]) -> Callable[[], float]:
    truth = rows[network.LABEL]
    return lambda: float(tf.reduce_mean(network.loss(settings)(truth, predict(model, rows))))
