"""The training loop: one step function under every strategy, with callbacks, checkpoints and preemption."""

import json
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models import adapters, optimizers, strategies
from models import callbacks as calls
from models.errors import Preempted
from models.input import Feed

PREDICT_BATCH = 4096


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


class Position(tf.train.experimental.PythonState):
    """Where training is, beside the weights in a checkpoint: steps, the losses of a begun epoch, curves, callbacks."""

    def __init__(self) -> None:
        self.step, self.seconds = 0, 0.0
        self.losses: list[Any] = []
        self.curves: list[dict[str, float]] = []
        self.journal: list[dict[str, Any]] = []
        self.callbacks: dict[str, Any] = {}

    def serialize(self) -> str:
        """As JSON; the losses, which are tensors until now, as numbers."""
        self.losses = [float(loss) for loss in self.losses]
        return json.dumps(vars(self), default=lambda other: None)

    def deserialize(self, string_value: str) -> None:
        """The reverse."""
        vars(self).update(json.loads(string_value))


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
    task: strategies.Task = strategies.ALONE,
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
    Evidence: tour.evidence.training.epochs_reconciled
    Proof: tests/test_evidence.py::test_an_epoch_is_every_whole_batch_once

    Question: A27
    Answer: Build model and optimizer in the strategy's scope; in a tf.function take a batch, run the forward pass under
        GradientTape, divide the summed loss by the global batch, apply the gradients; outside it count epochs, reset
        what is averaged, validate, drive the callbacks, save checkpoints. Write one where fit does not go: Keras 3's
        fit fails under multi-worker and parameter servers.
    Evidence: tour.evidence.loops.loop_equals_fit
    Proof: tests/test_loop.py::test_the_loop_ends_with_the_weights_of_keras_fit
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
    run = _runner(strategy, saver, train_step, feed, task, position, driven)
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


def build(
    network: Any, settings: Mapping[str, Any], features: Mapping[str, tf.TensorSpec], pretrained: str = ""
) -> keras.Model:
    """The case's model; with ``mixed_precision`` its layers compute in bfloat16 and keep float32 weights.

    bfloat16 has float32's range, so that the loss needs no scaling, and is what TPUs and GPUs since Ampere multiply.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if settings["mixed_precision"] else "float32")
    try:
        return network.build(settings, features, pretrained)
    finally:
        keras.config.set_dtype_policy(before)


def step_function(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    loss_fn: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    label: str,
    batch_size: int,
    settings: Mapping[str, Any],
) -> Callable[[Iterator[Any]], tf.Tensor]:
    """One optimizer step on the next global batch, compiled; returns the batch's mean loss.

    A replica sums its losses and divides by the *global* batch size, so that the sum over replicas that the optimizer's
    all-reduce takes is the gradient of the mean over the global batch, whatever the number of replicas.

    - ``accumulate``: the slice is cut into that many microbatches, whose gradients are summed before they are applied;
    - ``xla``: forward and backward pass are compiled; communication and update stay outside;
    - ``clip_norm``: gradients are summed over replicas first, as the norm of a part says nothing of the norm of the whole.

    Question: A3
    Answer: Eager code runs operation by operation as Python reaches it: easy to debug, right for a look at data or a call
        made once. tf.function traces Python into a graph that TensorFlow optimises, runs in parallel and can export. The
        small operations of a training step gain most, since Python's share falls away; large ones gain little. Tracing
        costs seconds once, and again for each new signature, so it has to be earned by many steps.
    Evidence: tour.evidence.functions.eager_and_graph
    Proof: tests/test_functions.py::test_eager_and_graph_steps_give_the_same_weights
    """
    replicas = strategy.num_replicas_in_sync

    def gradients(batch: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, list[Any]]:
        """The slice's part of the loss and the gradients of all trainable variables.

        Question: A4
        Answer: Exact derivatives of a program, not symbols and not differences: each operation knows its derivative, and
            the chain rule joins them. Reverse mode goes once backwards from the loss and gives the gradient by all weights
            for a few times the cost of the forward pass; differences would need two passes a weight. The price is memory:
            what the forward pass computed is kept until then.
        Evidence: tour.evidence.autodiff.gradients_checked
        Proof: tests/test_autodiff.py::test_the_tape_agrees_with_central_differences_and_a_wrong_gradient_does_not

        Question: A12
        Answer: It records the operations on watched tensors, trainable variables by themselves, while its block runs;
            gradient() goes back over the record once and frees it. A persistent tape answers several times until it is
            deleted. A tape within a tape gives second derivatives. stop_gradient makes a value a constant for the tape:
            nothing behind it gets a gradient, and gradient() says None.
        Evidence: tour.evidence.autodiff.tape_shown
        Proof: tests/test_autodiff.py::test_persistent_tapes_second_derivatives_and_stop_gradient
        """
        with tf.GradientTape() as tape:
            outputs = model({name: batch[name] for name in model.input}, training=True)
            loss = tf.reduce_sum(loss_fn(batch[label], tf.cast(outputs, tf.float32))) / batch_size
            total = loss + sum(model.losses) / (replicas * settings["accumulate"])
        # Rows of an embedding that several examples share come as several slices; Adam would square each by itself.
        return loss, [tf.convert_to_tensor(one) for one in tape.gradient(total, model.trainable_variables)]

    compiled = tf.function(gradients, jit_compile=True) if settings["xla"] else gradients

    def replica_step(batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """One replica's part of a step: gradients of its slice, then the update.

        Question: B12
        Answer: Forward pass and loss inside the tape, layers' penalties added; gradients by the trainable variables outside
            it; then clip if wanted and let the optimizer apply them. It is for what fit does not do: accumulation, several
            losses, penalties on gradients, strategies that fit fails under. Keep the whole step in one tf.function, and
            watch the norms by layer: zero or exploding ones show what is wrong.
        Evidence: tour.evidence.autodiff.custom_step
        Proof: tests/test_autodiff.py::test_a_step_written_out_equals_the_trainers
        """
        parts = {name: tf.split(value, settings["accumulate"]) for name, value in batch.items()}
        loss, found = compiled({name: part[0] for name, part in parts.items()})
        for index in range(1, settings["accumulate"]):
            more, others = compiled({name: part[index] for name, part in parts.items()})
            loss, found = loss + more, [one + other for one, other in zip(found, others, strict=True)]
        if settings["clip_norm"]:
            found = _clipped(found, settings["clip_norm"], replicas)
        optimizer.apply(found, model.trainable_variables)
        return loss

    @tf.function
    def train_step(stream: Iterator[Any]) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(replica_step, args=(next(stream),)), axis=None)

    return train_step


def _clipped(gradients: list[tf.Tensor], norm: float, replicas: int) -> list[tf.Tensor]:
    """Gradients of the global batch, their common norm at most ``norm``; a share each, as the optimizer sums them."""
    if replicas > 1:
        gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    return [one / replicas for one in tf.clip_by_global_norm(gradients, norm)[0]]


def predict(model: keras.Model, features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Logits of all rows, ``[rows, outputs]`` float32, in batches; inference mode.

    Question: B23
    Answer: Use it for what is called often with few signatures: training steps, prediction, what is exported. It hurts where
        each call brings a new Python number or shape and traces again, where the function is made anew in a loop, or for a
        call made once. Python side effects, such as print and append, happen while tracing only. Pass tensors, give an
        input_signature, count the traces.
    Evidence: tour.evidence.functions.misused
    Proof: tests/test_functions.py::test_python_numbers_trace_each_time_and_tensors_once
    """
    call = _inference(model)
    rows = len(next(iter(features.values())))
    parts = [
        call({name: tf.constant(features[name][start : start + PREDICT_BATCH]) for name in model.input}).numpy()
        for start in range(0, rows, PREDICT_BATCH)
    ]
    return np.concatenate(parts)


def _inference(model: keras.Model) -> Callable[[Mapping[str, tf.Tensor]], tf.Tensor]:
    """The model as a compiled function that any batch size fits, kept with the model so that it is traced once.

    Question: B4
    Answer: A graph has operations as nodes and tensors as edges, so it can be optimised, distributed and exported without
        Python. tf.function runs the Python code once for each new input signature, records its operations and from then on
        runs the graph. New shapes or Python values trace again; an input_signature with None for the batch stops that.
        tf.py_function calls back into this process's Python: an export with it fails elsewhere.
    Evidence: tour.evidence.functions.traced
    Proof: tests/test_functions.py::test_an_export_with_python_in_it_fails_in_another_process
    """
    if not hasattr(model, "_compiled_inference"):
        spec = {x.name: tf.TensorSpec([None, *x.shape[1:]], x.dtype) for x in model.inputs}
        model._compiled_inference = tf.function(
            lambda inputs: tf.cast(model(inputs, training=False), tf.float32), input_signature=[spec]
        )
    return model._compiled_inference


class Saver:
    """Checkpoints of weights, optimizer and position: after each epoch, every ``checkpoint_steps``, and on SIGTERM.

    A context manager, inside which SIGTERM is noted in place of ending the process. Under several workers TensorFlow's
    own handler is used, since all have to stop at the same step.
    """

    def __init__(self, model, optimizer, position: Position, callbacks, folder: Path, task: strategies.Task):
        self.position, self.callbacks, self.terminated = position, callbacks, threading.Event()
        self.watches = True
        checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, position=position)
        place = folder / "checkpoints"
        # All workers have to take part in saving; what the others write is not needed.
        own = place if task.chief else folder / f"scratch-{task.kind}-{task.index}"
        self.reader = tf.train.CheckpointManager(checkpoint, str(place), max_to_keep=2)
        self.writer = tf.train.CheckpointManager(checkpoint, str(own), max_to_keep=1) if not task.chief else self.reader

    def __enter__(self) -> "Saver":
        self._before = None
        if self.watches and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, lambda *_: self.terminated.set())
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def restore(self) -> bool:
        """Goes back to the last checkpoint; whether there was one."""
        found = self.reader.restore_or_initialize()
        calls.restore(self.callbacks, self.position.callbacks)
        return bool(found)

    def note(self) -> None:
        """Writes down, and says, where training goes on."""
        step, epoch = self.position.step, len(self.position.curves)
        self.position.journal.append({"epoch": epoch, "callback": "checkpoint", "what": f"went on at step {step}"})
        print(f"went on at step {step}, epoch {epoch + 1}", flush=True)

    def save(self) -> None:
        """Writes a checkpoint; under several workers all of them call it."""
        self.position.callbacks = calls.state(self.callbacks)
        self.writer.save(checkpoint_number=self.position.step)

    def stop(self) -> None:
        """Saves and ends training.

        Raises:
            Preempted: always.
        """
        self.save()
        raise Preempted(f"Training was told to stop; it goes on at step {self.position.step} when started again.")


def _runner(strategy, saver: Saver, train_step, feed: Feed, task, position: Position, driven) -> Callable[[int], None]:
    """What runs a number of steps under the strategy and notes their losses."""
    mine = strategies.share(strategy, task)
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        return _scheduled(strategy, saver, train_step, feed, position, driven)
    stream = iter(strategy.distribute_datasets_from_function(lambda _: feed(position.step, mine)))
    step = train_step
    if task.count("worker") > 1:
        handler = _handler(saver)
        step = lambda batches: handler.run(train_step, batches)  # noqa: E731

    def run(steps: int) -> None:
        for _ in range(steps):
            if saver.terminated.is_set():
                saver.stop()
            driven.on_train_batch_begin(position.step)
            position.losses.append(step(stream))
            driven.on_train_batch_end(position.step)
            position.step += 1

    return run


def _handler(saver: Saver) -> Any:
    """TensorFlow's handler of preemption: whoever gets SIGTERM tells the others, and all stop after the same step."""
    saver.watches = False
    return tf.distribute.experimental.PreemptionCheckpointHandler(
        tf.distribute.cluster_resolver.TFConfigClusterResolver(),
        saver.reader,
        termination_config=tf.distribute.experimental.TerminationConfig(
            exit_fn=saver.stop, save_fn=lambda *_: None, grace_period=0
        ),
    )


def _scheduled(strategy, saver: Saver, train_step, feed: Feed, position: Position, driven) -> Callable[[int], None]:
    """Steps handed to whichever worker is free; a worker that dies gets no more and its step is done by another."""
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    workers = strategy._extended._num_workers

    def batches() -> tf.data.Dataset:
        index = tf.distribute.coordinator.experimental_get_current_worker_index()
        return feed(position.step).shard(workers, tf.cast(index, tf.int64))

    stream = iter(coordinator.create_per_worker_dataset(batches))

    def run(steps: int) -> None:
        while steps:
            if saver.terminated.is_set():
                saver.stop()
            some = min(steps, 50)
            driven.on_train_batch_begin(position.step)
            results = [coordinator.schedule(train_step, args=(stream,)) for _ in range(some)]
            coordinator.join()
            position.losses += coordinator.fetch(results)
            driven.on_train_batch_end(position.step)
            position.step, steps = position.step + some, steps - some
            # Workers add to the count without waiting for each other, and some additions are lost.
            saver.callbacks[-1].model.optimizer.iterations.assign(position.step)

    return run


def _next_checkpoint(step: int, settings: Mapping[str, Any]) -> int:
    return (step // settings["checkpoint_steps"] + 1) * settings["checkpoint_steps"]


def _curve(network, settings, model, position: Position, batch_size: int, valid, started: float) -> dict[str, float]:
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


def _fitted(network, model, folder: Path, rows: int, batch_size: int, position: Position, strategy, task) -> Fit:
    if task.chief:
        model.load_weights(folder / calls.BEST)
    best = int(np.argmax([curve[network.MONITOR] for curve in position.curves]))
    return Fit(
        model, rows, batch_size, position.step, best, position.curves, position.journal, strategy.num_replicas_in_sync,
        adapters.trainable(model),
    )  # fmt: skip
