"""The training step: one on a global batch, and any number of them under each strategy."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from models.input import Feed
from models.training.checkpoint import Position, Saver
from models.training.distribute import strategies
from models.training.distribute.job import Task

SCHEDULED = 50  # steps that a coordinator hands out before it waits for them


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
    Evidence: tour.evidence.network.traced_functions.eager_and_graph
    Proof: tests/tour/evidence/test_traced_functions.py::test_eager_and_graph_steps_give_the_same_weights
    """
    replicas = strategy.num_replicas_in_sync

    def gradients(batch: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, list[Any]]:
        """The slice's part of the loss and the gradients of all trainable variables.

        Question: A4
        Answer: Exact derivatives of a program, not symbols and not differences: each operation knows its derivative, and
            the chain rule joins them. Reverse mode goes once backwards from the loss and gives the gradient by all weights
            for a few times the cost of the forward pass; differences would need two passes a weight. The price is memory:
            what the forward pass computed is kept until then.
        Evidence: tour.evidence.network.autodiff.gradients_checked
        Proof: tests/tour/evidence/test_autodiff.py::test_the_tape_agrees_with_central_differences_and_a_wrong_gradient_does_not

        Question: A12
        Answer: It records the operations on watched tensors, trainable variables by themselves, while its block runs;
            gradient() goes back over the record once and frees it. A persistent tape answers several times until it is
            deleted. A tape within a tape gives second derivatives. stop_gradient makes a value a constant for the tape:
            nothing behind it gets a gradient, and gradient() says None.
        Evidence: tour.evidence.network.autodiff.tape_shown
        Proof: tests/tour/evidence/test_autodiff.py::test_persistent_tapes_second_derivatives_and_stop_gradient
        """
        with tf.GradientTape() as tape:
            outputs = model({name: batch[name] for name in model.input}, training=True)
            loss = tf.reduce_sum(loss_fn(batch[label], tf.cast(outputs, tf.float32))) / batch_size
            total = loss + sum(model.losses) / (replicas * settings["accumulate"])
        # Rows of an embedding that several examples share come as several slices; Adam would square each by itself.
        return loss, [tf.convert_to_tensor(one) for one in tape.gradient(total, model.trainable_variables)]

    compiled = tf.function(gradients, autograph=False, jit_compile=True) if settings["xla"] else gradients

    def replica_step(batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """One replica's part of a step: gradients of its slice, then the update.

        Question: B12
        Answer: Forward pass and loss inside the tape, layers' penalties added; gradients by the trainable variables outside
            it; then clip if wanted and let the optimizer apply them. It is for what fit does not do: accumulation, several
            losses, penalties on gradients, strategies that fit fails under. Keep the whole step in one tf.function, and
            watch the norms by layer: zero or exploding ones show what is wrong.
        Evidence: tour.evidence.network.autodiff.custom_step
        Proof: tests/tour/evidence/test_autodiff.py::test_a_step_written_out_equals_the_trainers
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

    # No branch of a step depends on a tensor's value; to look for one takes a fifth of the time until the first step.
    @tf.function(autograph=False)
    def train_step(stream: Iterator[Any]) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(replica_step, args=(next(stream),)), axis=None)

    return train_step


def _clipped(gradients: list[tf.Tensor], norm: float, replicas: int) -> list[tf.Tensor]:
    """Gradients of the global batch, their common norm at most ``norm``; a share each, as the optimizer sums them."""
    if replicas > 1:
        gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    return [one / replicas for one in tf.clip_by_global_norm(gradients, norm)[0]]


def runner(
    strategy: tf.distribute.Strategy,
    saver: Saver,
    train_step: Callable[[Any], Any],
    feed: Feed,
    task: Task,
    position: Position,
    driven: keras.callbacks.CallbackList,
) -> Callable[[int], None]:
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


def _scheduled(
    strategy: tf.distribute.Strategy,
    saver: Saver,
    train_step: Callable[[Any], Any],
    feed: Feed,
    position: Position,
    driven: keras.callbacks.CallbackList,
) -> Callable[[int], None]:
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
            some = min(steps, SCHEDULED)
            driven.on_train_batch_begin(position.step)
            results = [coordinator.schedule(train_step, args=(stream,)) for _ in range(some)]
            coordinator.join()
            position.losses += coordinator.fetch(results)
            driven.on_train_batch_end(position.step)
            position.step, steps = position.step + some, steps - some
            # Workers add to the count without waiting for each other, and some additions are lost.
            saver.callbacks[-1].model.optimizer.iterations.assign(position.step)

    return run
