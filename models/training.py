"""One training loop for every use case."""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models import export, optimizers
from models.catalog import find
from models.input import Transform, batches, dataset, files, load
from models.rows import Rows, sample

PREDICT_BATCH = 4096
MEASURED = 20_000


@dataclass
class Fit:
    """What training left behind.

    Attributes:
        model: The Keras model with the best weights.
        rows: Examples of the train split.
        batch_size: Examples of one global batch.
        steps: Optimizer steps in all.
        best: Epoch whose weights were kept, from 0.
        curves: One dict an epoch: loss on train and valid, the monitored metric on valid, seconds.
    """

    model: keras.Model
    rows: int
    batch_size: int
    steps: int = 0
    best: int = 0
    curves: list[dict[str, float]] = field(default_factory=list)


def run_fn(fn_args: Any) -> None:
    """Entry point of TFX's Trainer: trains on the train split, picks the operating point on valid, exports.

    Leaves ``training.json`` (curves, counts, settings) in the model run folder.
    """
    config = fn_args.custom_config
    network, settings = find(config["case"]).load("model"), tuned(config["settings"], fn_args.hyperparameters)
    seed_everything(settings["seed"])
    transform = Transform(fn_args.transform_graph_path)
    keep = (*network.INPUTS, network.LABEL)
    examples = str(Path(fn_args.train_files[0]).parent.parent)
    valid = load(files(examples, "valid"), transform, keep)
    rows, train = batches(files(examples, "train"), transform, keep, settings["batch_size"], settings["seed"])
    fitted = fit(network, settings, transform.features, train, rows, valid)
    logits = predict(fitted.model, valid)
    point = network.operating_point(settings, valid[network.LABEL], logits)
    export.save(fn_args.serving_model_dir, network, fitted.model, transform, point, settings)
    seen = dataset(files(examples, "train"), transform, keep).as_numpy_iterator()
    record = {"fit": measured(network, settings, fitted.model, sample(seen, MEASURED, settings["seed"]), valid)}
    if settings["folds"]:
        from models.folds import cross_validate  # which trains with this module

        whole = load(files(examples, "train"), transform, keep)
        record["folds"] = cross_validate(network, settings, transform.features, whole, valid)
    quality = network.quality(valid[network.LABEL], logits)
    _record(Path(fn_args.model_run_dir), fitted, settings, point, quality, record)


def tuned(settings: Mapping[str, Any], found: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings with what the Tuner found over them; ``found`` is a KerasTuner configuration, None without a Tuner."""
    return {**settings, **(found["values"] if found else {})}


def measured(network: Any, settings: Mapping[str, Any], model: keras.Model, train: Rows, valid: Rows) -> dict[str, Any]:
    """How the kept weights do on train (or a sample of it) and on valid, in inference mode, so that both can be compared.

    The loss of an epoch is another thing: it is taken with dropout and augmentation on, while the weights change.

    Returns:
        The name of the monitored ``metric``, and for ``train`` and ``valid`` each ``rows``, ``loss`` (without penalties)
        and the network's metrics.

    Question: A14
    Answer: First see it: both curves, and the kept weights measured in inference mode on train and on valid. More data
        helps most. Then augmentation, fewer parameters, dropout, L2 or weight decay, batch normalisation, and stopping
        when valid no longer improves. Measure each, since some cost more than they give; with a small split judge by
        cross-validation. Every choice made by looking at valid wears it out, so eval stays untouched. Leakage looks
        like success.
    Evidence: tour.evidence.overfitting.methods
    Proof: tests/test_overfitting.py::test_more_rows_narrow_the_gap
    """
    found: dict[str, Any] = {"metric": network.MONITOR}
    for split, rows in (("train", train), ("valid", valid)):
        logits, truth = predict(model, rows), rows[network.LABEL]
        loss = float(tf.reduce_mean(network.loss(settings)(truth, logits)))
        found[split] = {"rows": len(truth), "loss": loss, **network.quality(truth, logits)}
    return found


def seed_everything(seed: int) -> None:
    """One seed for Python, NumPy, Keras and TensorFlow."""
    random.seed(seed)
    np.random.seed(seed)
    keras.utils.set_random_seed(seed)


def fit(
    network: Any,
    settings: Mapping[str, Any],
    features: Mapping[str, tf.TensorSpec],
    train: tf.data.Dataset,
    rows: int,
    valid: Mapping[str, np.ndarray],
) -> Fit:
    """Trains until the monitored metric on ``valid`` has not risen for ``patience`` epochs; keeps the best weights.

    Args:
        network: The case's model module.
        settings: The training settings: ``epochs`` are fewer where they would take more than ``max_steps``.
        features: Shapes and types of the transformed features.
        train: An endless stream of shuffled global batches.
        rows: Examples of the train split; an epoch is that many, rounded down to whole batches.
        valid: The validation split in memory.

    Question: A18
    Answer: One pass over the train split. With n examples and batches of b, an epoch here is n // b steps; the rest is
        left out, and as every epoch is shuffled anew it is another rest each time. Training stops after `patience`
        epochs without a better validation metric and keeps the best epoch's weights. An endless stream has no epochs:
        steps take their place.
    Evidence: tour.evidence.training.epochs_reconciled
    Proof: tests/test_evidence.py::test_an_epoch_is_every_whole_batch_once
    """
    strategy = tf.distribute.get_strategy()
    batch_size = min(settings["batch_size"], rows)
    per_epoch = rows // batch_size
    epochs = min(settings["epochs"], -(-settings["max_steps"] // per_epoch))
    with strategy.scope():
        model = network.build(settings, features)
        optimizer = optimizers.create(settings, per_epoch * epochs)
        optimizer.build(model.trainable_variables)
    train_step = step_function(strategy, model, optimizer, network.loss(settings), network.LABEL, batch_size)
    fitted, stream = Fit(model, rows, batch_size), iter(train)
    best, kept = -np.inf, model.get_weights()
    for epoch in range(epochs):
        fitted.curves.append(_epoch(network, settings, fitted, train_step, stream, per_epoch, valid))
        print(_line(epoch, epochs, fitted.curves[-1]), flush=True)
        if fitted.curves[-1][network.MONITOR] > best:
            best, fitted.best, kept = fitted.curves[-1][network.MONITOR], epoch, model.get_weights()
        elif settings["patience"] and epoch - fitted.best >= settings["patience"]:
            break
    model.set_weights(kept)
    return fitted


def step_function(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    loss_fn: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    label: str,
    batch_size: int,
) -> Callable[[Iterator[Any]], tf.Tensor]:
    """One optimizer step on the next global batch, compiled; returns the batch's mean loss.

    A replica sums its losses and divides by the *global* batch size, so that the sum over replicas that the optimizer's
    all-reduce takes is the gradient of the mean over the global batch, whatever the number of replicas.
    """

    def replica_step(batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        inputs = {name: batch[name] for name in model.input}
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(loss_fn(batch[label], model(inputs, training=True))) / batch_size
            total = loss + sum(model.losses) / strategy.num_replicas_in_sync
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(total, variables), variables)
        return loss

    @tf.function
    def train_step(stream: Iterator[Any]) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(replica_step, args=(next(stream),)), axis=None)

    return train_step


def predict(model: keras.Model, features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Logits of all rows, ``[rows, outputs]``, in batches; inference mode."""
    call = _inference(model)
    rows = len(next(iter(features.values())))
    parts = [
        call({name: tf.constant(features[name][start : start + PREDICT_BATCH]) for name in model.input}).numpy()
        for start in range(0, rows, PREDICT_BATCH)
    ]
    return np.concatenate(parts)


def _inference(model: keras.Model) -> Callable[[Mapping[str, tf.Tensor]], tf.Tensor]:
    """The model as a compiled function that any batch size fits, kept with the model so that it is traced once."""
    if not hasattr(model, "_compiled_inference"):
        spec = {x.name: tf.TensorSpec([None, *x.shape[1:]], x.dtype) for x in model.inputs}
        model._compiled_inference = tf.function(lambda inputs: model(inputs, training=False), input_signature=[spec])
    return model._compiled_inference


def _epoch(network, settings, fitted, train_step, stream, steps, valid) -> dict[str, float]:
    started = time.perf_counter()
    losses = [train_step(stream) for _ in range(steps)]
    fitted.steps += steps
    logits, truth = predict(fitted.model, valid), valid[network.LABEL]
    valid_loss = float(tf.reduce_mean(network.loss(settings)(truth, logits)))
    return {
        "loss": float(tf.reduce_mean(tf.stack(losses))),
        "valid_loss": valid_loss,
        **network.quality(truth, logits),
        "seconds": time.perf_counter() - started,
    }


def _line(epoch: int, epochs: int, curve: Mapping[str, float]) -> str:
    return f"epoch {epoch + 1}/{epochs} " + " ".join(f"{name}={value:.4f}" for name, value in curve.items())


def _record(
    folder: Path,
    fitted: Fit,
    settings: Mapping[str, Any],
    point: Mapping[str, float],
    quality: Mapping[str, float],
    more: Mapping[str, Any],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "rows": fitted.rows, "batch_size": fitted.batch_size, "steps": fitted.steps, "best_epoch": fitted.best,
        "parameters": fitted.model.count_params(), "curves": fitted.curves, "settings": dict(settings),
        "operating_point": dict(point), "valid": dict(quality), **more,
    }  # fmt: skip
    (folder / "training.json").write_text(json.dumps(record, indent=1))
