"""The training loop: epochs of steps, with validation, callbacks and a checkpoint; the same under every strategy."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.input import Feed
from models.network import build, predict
from models.training import adapters, optimizers
from models.training import callbacks as calls
from models.training.checkpoint import CheckpointSaver, TrainingPosition
from models.training.distribute import strategies
from models.training.distribute.job import SINGLE_TASK, ClusterTask
from models.training.step import create_runner, create_train_step


@dataclass(frozen=True)
class TrainingSplits:
    """The two splits that a training reads.

    Attributes:
        features: Shapes and types of the transformed features.
        rows: Number of examples of the train split; an epoch is that many, rounded down to whole batches.
        feed: Creates the infinite stream of the train split's shuffled batches from a given step on.
        valid: The validation split in memory.
    """

    features: Mapping[str, tf.TensorSpec]
    rows: int
    feed: Feed
    valid: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class TrainingStart:
    """What a training starts from, and where it runs.

    Attributes:
        folder: Folder of checkpoints, best weights and event files; training resumes from a checkpoint in it. None for a
            temporary one.
        pretrained: Folder of weights that an earlier stage learned.
        base: File of weights to start from; then only low-rank adapters are trained.
        strategy: The distribution strategy; None for TensorFlow's default strategy.
        task: This process's task in the cluster.
    """

    folder: Path | None = None
    pretrained: str = ""
    base: str = ""
    strategy: tf.distribute.Strategy | None = None
    task: ClusterTask = SINGLE_TASK


DEFAULT_START = TrainingStart()


@dataclass
class TrainingResult:
    """Result of a training.

    Attributes:
        model: The Keras model with the best weights.
        rows: Number of examples of the train split.
        batch_size: Number of examples of one global batch.
        steps: Total number of optimizer steps.
        best: Epoch of the best weights, from 0.
        curves: One dict for each epoch: loss on train and valid, the metrics on valid, seconds.
        journal: Actions of the callbacks, and restarts.
        replicas: Number of replicas that shared a global batch.
        trainable: Number of trained weights.
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
    network: Any, settings: Mapping[str, Any], splits: TrainingSplits, start: TrainingStart = DEFAULT_START
) -> TrainingResult:
    """Train until the monitored metric on valid has not improved for ``patience`` epochs; return the best weights.

    Args:
        network: The case's model module.
        settings: The training settings; ``max_steps`` may reduce ``epochs``.
        splits: The train and the validation split.
        start: What the training starts from, and where it runs.

    Raises:
        PreemptedError: after SIGTERM, with a checkpoint written.

    Question: A18
    Answer: An epoch is one pass over the training data. With n examples and batches of b, it is n // b steps here; the
        remainder is dropped, and since every epoch is reshuffled, a different remainder each time. More epochs
        eventually overfit, so training stops after `patience` epochs without a better validation metric and restores
        the best epoch's weights. An infinite stream has no epochs; you count steps instead. Here the evidence
        reconciles epochs, steps and examples.
    Evidence: tour.evidence.training.trainer_output.epoch_counts
    Proof: tests/tour/evidence/test_claims.py::test_an_epoch_is_every_whole_batch_once

    Question: A27
    Answer: Build model and optimizer in the strategy's scope. In a tf.function take a batch, run the forward pass under
        GradientTape, divide the summed loss by the global batch size, and apply the gradients. Outside it count epochs,
        reset running averages, validate, call the callbacks and save checkpoints. Write one only where fit does not
        work: Keras 3's fit fails under multi-worker and parameter-server strategies. Here our loop ends with the same
        weights as fit.
    Evidence: tour.evidence.training.loop_against_fit.loop_equals_fit
    Proof: tests/models/training/test_loop.py::test_the_loop_ends_with_the_weights_of_keras_fit
    """
    if start.folder is None:
        with tempfile.TemporaryDirectory() as scratch:
            return fit(network, settings, splits, replace(start, folder=Path(scratch)))
    folder, task, strategy = start.folder, start.task, start.strategy or tf.distribute.get_strategy()
    batch_size = min(settings["batch_size"], splits.rows)
    per_epoch = splits.rows // batch_size
    epochs = min(settings["epochs"], -(-settings["max_steps"] // per_epoch))
    with strategy.scope():
        model = build(network, settings, splits.features, start.pretrained)
        if start.base:
            model.load_weights(start.base)
            adapters.add(model, settings["lora_rank"])
        optimizer = optimizers.create(settings, per_epoch * epochs)
        optimizer.build(model.trainable_variables)
    strategies.check_model(model, settings, strategy.num_replicas_in_sync)
    model.optimizer, model.stop_training, position = optimizer, False, TrainingPosition()
    train_step = create_train_step(
        strategy, model, optimizer, network.loss(settings), network.LABEL, batch_size, settings
    )
    model.train_function = train_step  # the TensorBoard callback reads the graph from this attribute
    callbacks = calls.create(settings, network.MONITOR, folder, task.chief)
    callback_list = keras.callbacks.CallbackList(callbacks, model=model)
    saver = CheckpointSaver(
        model=model, optimizer=optimizer, position=position, callbacks=callbacks, folder=folder, task=task
    )
    callback_list.on_train_begin()
    resumed = saver.restore()
    run_steps = create_runner(strategy, saver, train_step, splits.feed, task, position, callback_list)
    # TensorFlow's preemption handler has restored once more: an earlier journal entry would be lost.
    if resumed:
        saver.note()
    callbacks[-1].entries = position.journal
    with saver:
        for epoch in range(len(position.curves), epochs):
            if model.stop_training:
                break
            started = time.perf_counter() - position.seconds
            callback_list.on_epoch_begin(epoch)
            while position.step < (epoch + 1) * per_epoch:
                run_steps(min((epoch + 1) * per_epoch, _next_checkpoint(position.step, settings)) - position.step)
                position.seconds = time.perf_counter() - started
                if position.step % settings["checkpoint_steps"] == 0:
                    saver.save()
            position.curves.append(
                _measure_epoch(network, settings, model, position, batch_size, splits.valid, started)
            )
            print(_format_progress(epoch, epochs, position.curves[-1]), flush=True)
            callback_list.on_epoch_end(epoch, dict(position.curves[-1]))
            position.losses, position.seconds = [], 0.0
            saver.save()
    callback_list.on_train_end()
    if task.chief:
        model.load_weights(folder / calls.BEST)
    return TrainingResult(
        model=model,
        rows=splits.rows,
        batch_size=batch_size,
        steps=position.step,
        best=int(np.argmax([curve[network.MONITOR] for curve in position.curves])),
        curves=position.curves,
        journal=position.journal,
        replicas=strategy.num_replicas_in_sync,
        trainable=adapters.count_trainable(model),
    )


def _next_checkpoint(step: int, settings: Mapping[str, Any]) -> int:
    return (step // settings["checkpoint_steps"] + 1) * settings["checkpoint_steps"]


def _measure_epoch(
    network: Any,
    settings: Mapping[str, Any],
    model: keras.Model,
    position: TrainingPosition,
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


def _format_progress(epoch: int, epochs: int, curve: Mapping[str, float]) -> str:
    return f"epoch {epoch + 1}/{epochs} " + " ".join(f"{name}={value:.4g}" for name, value in curve.items())
