"""Our loop beside Keras' fit: the same steps of both on the same batches, now."""

import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.input import Feed, kept
from models.network import build
from models.training import optimizers
from models.training.refit import LastEpoch, fit_rows
from models.training.seeds import seed_everything
from tour.evidence.context import Context
from tour.evidence.result_types import Number, Result, Table

ROWS, BATCH, EPOCHS = 2048, 128, 2
# Random masks are drawn by every call, and files are for people to read; neither belongs to what is compared. SGD, since
# under Adam fit squares the gradients of an embedding's rows one by one where several examples share a row; ours sums first.
PLAIN = {
    "dropout": 0.0,
    "augment": False,
    "tensorboard": False,
    "patience": 0,
    "epochs": EPOCHS,
    "batch_size": BATCH,
    "max_steps": 10**6,
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "accumulate": 1,
    "xla": False,
    "clip_norm": 0.0,
    "mixed_precision": False,
    "deterministic": False,
}


def loop_equals_fit(context: Context) -> list[Result]:
    """A27: the same network trained by our loop and by fit from the same seed; the weights, the losses, the seconds."""
    network = context.case.load("model")
    settings = {**context.training["settings"], **PLAIN}
    rows = context.rows("train", (*network.INPUTS, network.LABEL), ROWS)
    count, feed = kept(rows, BATCH, settings["seed"])
    started = time.perf_counter()
    ours = fit_rows(LastEpoch(network), settings, rows, rows, context.pretrained)
    between = time.perf_counter()
    theirs, losses = _fit(network, settings, context, feed, count)
    ended = time.perf_counter()
    apart = max(float(np.abs(a - b).max()) for a, b in zip(ours.model.get_weights(), theirs.get_weights(), strict=True))
    table = (
        ("our loop", ours.steps, ours.curves[-1]["loss"], between - started),
        ("keras fit", EPOCHS * (count // BATCH), losses[-1], ended - between),
    )
    return [
        Table("The same training twice, now", ("by", "steps", "loss of the last epoch", "s with tracing"), table),
        Number("Largest difference of a weight", apart),
        Number("The run itself", context.training["steps"], f"steps of this loop under {settings['strategy']}"),
    ]


def _fit(
    network: Any, settings: Mapping[str, Any], context: Context, feed: Feed, count: int
) -> tuple[keras.Model, list[float]]:
    seed_everything(settings)
    model = build(network, settings, context.transform.features, context.pretrained)
    loss, kind = network.loss(settings), context.transform.features[network.LABEL].dtype
    model.compile(optimizers.create(settings, EPOCHS * (count // BATCH)), lambda y, z: loss(tf.cast(y, kind), z))
    stream = feed().map(lambda batch: ({name: batch[name] for name in network.INPUTS}, batch[network.LABEL]))
    told = model.fit(stream.take(EPOCHS * (count // BATCH)), steps_per_epoch=count // BATCH, epochs=EPOCHS, verbose=0)
    return model, told.history["loss"]
