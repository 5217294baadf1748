"""The training loop: epochs of steps, each epoch validated, called back and saved; the same under every strategy."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.input import Feed
from models.network import build, predict
from models.training import adapters, optimizers
from models.training import callbacks as calls
from models.training.checkpoint import Position, Saver
from models.training.distribute import strategies
from models.training.distribute.job import ALONE, Task
from models.training.step import runner, step_function


@dataclass
class Fit:
    """What training left behind.

    Attributes:
        model: The Keras model with the best weights.
        rows: Examples of the train split.
        batch_size: Examples of one global batch.
        steps: Optimizer steps in all.
        best: Epoch whose weights were kept, from 0.
        curves: One dict an epoch: loss on train and valid, the metrics on valid, seconds.
        journal: What each callback did, and each restart.
        replicas: Replicas that shared a global batch.
        trainable: Weights that training changed, in number.
    """

    model: keras.Model
    rows: int
    batch_size: int
    steps: int = 0
    best: int = 0
    curves: list[dict[str, float]] = field(default_factory=list)
    journal: list[dict[str, Any]] = field(default_factory=list)
    replicas: int = 1
    trainable: int = 0


def fit(
    network: Any,
    settings: Mapping[str, Any],
    features: Mapping[str, tf.TensorSpec],
    feed: Feed,
    rows: int,
    valid: Mapping[str, np.ndarray],
    folder: Path | None = None,
    pretrained: str = "",
    base: str = "",
    strategy: tf.distribute.Strategy | None = None,
    task: Task = ALONE,
) -> Fit:
    """Trains until the monitored metric on ``valid`` has not risen for ``patience`` epochs; keeps the best weights.

    Args:
        network: The case's model module.
        settings: The training settings: ``epochs`` are fewer where they would take more than ``max_steps``.
        features: Shapes and types of the transformed features.
        feed: Makes the endless stream of shuffled batches from a step on.
        rows: Examples of the train split; an epoch is that many, rounded down to whole batches.
        valid: The validation split in memory.
        folder: Where checkpoints, the best weights and event files go; what a killed attempt left there is gone on with.
        pretrained: Folder of weights that a stage before learnt.
        base: File of weights to begin from; then only low-rank adapters beside them are trained.
        strategy: The distribution strategy; TensorFlow's default one if left out.
        task: What this process is in a cluster.

    Raises:
        Preempted: after SIGTERM, with a checkpoint written.

    Question: A18
    Answer: One pass over the train split. With n examples and batches of b, an epoch here is n // b steps; the rest is
        left out, and as every epoch is shuffled anew it is another rest each time. Training stops after `patience`
        epochs without a better validation metric and keeps the best epoch's weights. An endless stream has no epochs:
        steps take their place.
    Evidence: tour.evidence.training.trainer_output.epochs_reconciled
    Proof: tests/tour/evidence/test_claims.py::test_an_epoch_is_every_whole_batch_once

    Question: A27
    Answer: Build model and optimizer in the strategy's scope; in a tf.function take a batch, run the forward pass under
        GradientTape, divide the summed loss by the global batch, apply the gradients; outside it count epochs, reset
        what is averaged, validate, drive the callbacks, save checkpoints. Write one where fit does not go: Keras 3's
        fit fails under multi-worker and parameter servers.
    Evidence: tour.evidence.training.loop_against_fit.loop_equals_fit
    Proof: tests/models/training/test_loop.py::test_the_loop_ends_with_the_weights_of_keras_fit
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as scratch:
            return fit(network, settings, features, feed, rows, valid, Path(scratch), pretrained, base, strategy, task)
    strategy = strategy or tf.distribute.get_strategy()
    batch_size = min(settings["batch_size"], rows)
    per_epoch = rows // batch_size
    epochs = min(settings["epochs"], -(-settings["max_steps"] // per_epoch))
    with strategy.scope():
        model = build(network, settings, features, pretrained)
        if base:
            model.load_weights(base)
            adapters.add(model, settings["lora_rank"])
        optimizer = optimizers.create(settings, per_epoch * epochs)
        optimizer.build(model.trainable_variables)
    strategies.check_model(model, settings, strategy.num_replicas_in_sync)
    model.optimizer, model.stop_training, position = optimizer, False, Position()
    train_step = step_function(strategy, model, optimizer, network.loss(settings), network.LABEL, batch_size, settings)
    model.train_function = train_step  # where the TensorBoard callback looks for the graph
    made = calls.create(settings, network.MONITOR, folder, task.chief)
    driven = keras.callbacks.CallbackList(made, model=model)
    saver = Saver(model, optimizer, position, made, folder, task)
    driven.on_train_begin()
    taken_up = saver.restore()
    run = runner(strategy, saver, train_step, feed, task, position, driven)
    # TensorFlow's handler of preemption has restored once more: what is noted before it would be lost.
    if taken_up:
        saver.note()
    made[-1].entries = position.journal
    with saver:
        for epoch in range(len(position.curves), epochs):
            if model.stop_training:
                break
            started = time.perf_counter() - position.seconds
            driven.on_epoch_begin(epoch)
            while position.step < (epoch + 1) * per_epoch:
                run(min((epoch + 1) * per_epoch, _next_checkpoint(position.step, settings)) - position.step)
                position.seconds = time.perf_counter() - started
                if position.step % settings["checkpoint_steps"] == 0:
                    saver.save()
            position.curves.append(_curve(network, settings, model, position, batch_size, valid, started))
            print(_line(epoch, epochs, position.curves[-1]), flush=True)
            driven.on_epoch_end(epoch, dict(position.curves[-1]))
            position.losses, position.seconds = [], 0.0
            saver.save()
    driven.on_train_end()
    return _fitted(network, model, folder, rows, batch_size, position, strategy, task)


def _next_checkpoint(step: int, settings: Mapping[str, Any]) -> int:
    return (step // settings["checkpoint_steps"] + 1) * settings["checkpoint_steps"]


def _curve(
    network: Any,
    settings: Mapping[str, Any],
    model: keras.Model,
    position: Position,
    batch_size: int,
    valid: Mapping[str, np.ndarray],
    started: float,
) -> dict[str, float]:
    logits, truth = predict(model, valid), valid[network.LABEL]
    return {
        "loss": float(np.mean([float(loss) for loss in position.losses])),
        "valid_loss": float(tf.reduce_mean(network.loss(settings)(truth, logits))),
        **network.quality(truth, logits),
        "examples_per_second": len(position.losses) * batch_size / position.seconds,
        "seconds": time.perf_counter() - started,
    }


def _line(epoch: int, epochs: int, curve: Mapping[str, float]) -> str:
    return f"epoch {epoch + 1}/{epochs} " + " ".join(f"{name}={value:.4g}" for name, value in curve.items())


def _fitted(
    network: Any,
    model: keras.Model,
    folder: Path,
    rows: int,
    batch_size: int,
    position: Position,
    strategy: tf.distribute.Strategy,
    task: Task,
) -> Fit:
    if task.chief:
        model.load_weights(folder / calls.BEST)
    best = int(np.argmax([curve[network.MONITOR] for curve in position.curves]))
    return Fit(
        model,
        rows,
        batch_size,
        position.step,
        best,
        position.curves,
        position.journal,
        strategy.num_replicas_in_sync,
        adapters.trainable(model),
    )
