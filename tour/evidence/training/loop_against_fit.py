"""Evidence on the training loop: our loop and Keras' fit train for the same steps on the same batches."""

import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.input import Feed, feed_from_memory
from models.network import build
from models.training import optimizers
from models.training.model_selection.refit import LastEpoch, fit_rows
from models.training.seeds import seed_everything
from tour.evidence.context import Context
from tour.evidence.result_types import Number, Result, Table

ROWS, BATCH, EPOCHS = 2048, 128, 2
# Switches off random masks, which differ in every call, and files, which are not compared. SGD, as the two differ under
# Adam: where several examples share an embedding's row, fit squares their gradients one by one, our loop sums them first.
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
    """A27: the same network trained by our loop and by fit from the same seed: weights, losses and seconds."""
    network = context.network
    settings = {**context.training["settings"], **PLAIN}
    data = context.labelled_rows("train", ROWS)
    count, feed = feed_from_memory(data, BATCH, settings["seed"])
    started = time.perf_counter()
    ours = fit_rows(LastEpoch(network), settings, data, data, context.pretrained)
    middle = time.perf_counter()
    model, fit_losses = _fit(network, settings, context, feed, count)
    ended = time.perf_counter()
    difference = max(
        float(np.abs(a - b).max()) for a, b in zip(ours.model.get_weights(), model.get_weights(), strict=True)
    )
    rows = (
        ("our loop", ours.steps, ours.curves[-1]["loss"], middle - started),
        ("keras fit", EPOCHS * (count // BATCH), fit_losses[-1], ended - middle),
    )
    return [
        Table(
            "The same training by our loop and by Keras' fit, run now",
            ("trained by", "steps", "loss of the last epoch", "s including tracing"),
            rows,
        ),
        Number("Largest difference between weights", difference),
        Number(
            "Training of this run", context.training["steps"], f"steps of our loop, strategy {settings['strategy']}"
        ),
    ]


def _fit(
    network: Any, settings: Mapping[str, Any], context: Context, feed: Feed, count: int
) -> tuple[keras.Model, list[float]]:
    seed_everything(settings)
    model = build(network, settings, context.transform.features, context.pretrained)
    loss, kind = network.loss(settings), context.transform.features[network.LABEL].dtype
    model.compile(optimizers.create(settings, EPOCHS * (count // BATCH)), lambda y, z: loss(tf.cast(y, kind), z))
    stream = feed().map(lambda batch: ({name: batch[name] for name in network.INPUTS}, batch[network.LABEL]))
    history = model.fit(
        stream.take(EPOCHS * (count // BATCH)), steps_per_epoch=count // BATCH, epochs=EPOCHS, verbose=0
    )
    return model, history.history["loss"]
