"""Evidence on LoRA refreshes: adapters trained on the served network, and the benchmarks of refreshes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from models.network import predict
from models.saved_model import restore
from models.training import adapters, optimizers
from models.training.adapters import count_trainable
from models.training.seeds import seed_everything
from models.training.step import create_train_step
from tour.evidence.benchmark_reports import tables
from tour.evidence.context import Context
from tour.evidence.result_types import Result, Table

STEPS, BATCH = 30, 256
FLOAT = 4  # bytes


def adapter_training(context: Context) -> list[Result]:
    """B20: trainable weights, memory and loss with and without LoRA adapters, after a few steps now; and the benchmarks."""
    ranks = {"all weights": 0, **{f"adapters of rank {rank}": rank for rank in (1, 4)}}
    rows = tuple((name, *_few_steps(context, rank)) for name, rank in ranks.items())
    columns = (
        "trained part",
        "trainable weights",
        "share of all weights",
        "gradients and optimizer, bytes",
        "loss before",
        "loss after",
    )
    title = f"Served network trained now for {STEPS} steps of {BATCH} rows"
    return [Table(title, columns, rows), *tables("refresh", "refresh"), *tables("strategies", "switches")]


def _few_steps(context: Context, rank: int) -> tuple[Any, ...]:
    """Trainable weights, their share, bytes of gradients and optimizer state, and the loss before and after."""
    network = context.network
    settings = {**restore.read_settings(str(context.served)), "accumulate": 1, "xla": False, "schedule": "plateau"}
    settings["learning_rate"] = 0.1 * settings["learning_rate"]
    seed_everything({**settings, "deterministic": False})
    model = restore.restore_model(str(context.served), network, context.transform, context.pretrained)
    all_weights = count_trainable(model)
    count = adapters.add(model, rank) if rank else all_weights
    optimizer = optimizers.create(settings, STEPS)
    optimizer.build(model.trainable_variables)
    state = sum(int(np.prod(variable.shape)) for variable in optimizer.variables) + count
    rows = context.labelled_rows("valid", BATCH)
    loss = _loss(network, settings, model, rows)
    step = create_train_step(
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
    return count, round(count / all_weights, 4), state * FLOAT, before, loss()


def _loss(network: Any, settings: dict[str, Any], model: Any, rows: dict[str, np.ndarray]) -> Callable[[], float]:
    truth = rows[network.LABEL]
    return lambda: float(tf.reduce_mean(network.loss(settings)(truth, predict(model, rows))))
