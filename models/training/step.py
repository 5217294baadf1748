"""The training step on a global batch, and running steps under each strategy."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from models.input import Feed
from models.training.checkpoint import CheckpointSaver, TrainingPosition
from models.training.distribute import strategies
from models.training.distribute.job import ClusterTask

SCHEDULED_STEPS = 50  # steps that a coordinator schedules before it waits for them


def create_train_step(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    loss_fn: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    label: str,
    batch_size: int,
    settings: Mapping[str, Any],
) -> Callable[[Iterator[Any]], tf.Tensor]:
    """Build the compiled function that takes one optimizer step on the next global batch and returns its mean loss.

    A replica sums its losses and divides by the *global* batch size. The optimizer's all-reduce sums over replicas, so
    the result is the gradient of the mean over the global batch, whatever the number of replicas.

    - ``accumulate``: the slice is cut into that many microbatches, whose gradients are summed before they are applied;
    - ``xla``: forward and backward pass are compiled; communication and update are not;
    - ``clip_norm``: gradients are summed over replicas first, since the norm of a part does not give the norm of the
      whole.

    Question: A3
    Answer: Eager execution runs each operation as Python reaches it, so it is easy to debug and right for exploring
        data or for a single call. A tf.function traces Python into a graph that TensorFlow optimises, runs in parallel
        and can export. Small operations gain most, because Python overhead disappears; large ones gain little. The cost
        is tracing: seconds once, and again for each new signature. Here eager and graph steps give the same weights.
    Evidence: tour.evidence.network.traced_functions.eager_and_graph
    Proof: tests/tour/evidence/test_traced_functions.py::test_eager_and_graph_steps_give_the_same_weights
    """
    replicas = strategy.num_replicas_in_sync

    def gradients(batch: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, list[Any]]:
        """Compute the slice's part of the loss, and the gradients of all trainable variables.

        Question: A4
        Answer: Automatic differentiation computes exact derivatives of a program: every operation has a known
            derivative, and the chain rule combines them. It is neither symbolic nor finite differences. Reverse mode
            goes backwards once from the loss and yields the gradient for all weights at a few times the cost of the
            forward pass; differences need two passes a weight. The price is memory for intermediate values. Here the
            tape is checked against central differences.
        Evidence: tour.evidence.network.autodiff.gradients_checked
        Proof:
            tests/tour/evidence/test_autodiff.py::test_the_tape_agrees_with_central_differences_and_a_wrong_gradient_does_not

        Question: A12
        Answer: GradientTape records operations on watched tensors while its block runs; trainable variables are watched
            automatically. gradient() walks the record backwards once and then frees it. A persistent tape allows
            several calls, until you delete it; a tape inside a tape gives second derivatives. The trap is
            stop_gradient: it makes a value a constant for the tape, so nothing behind it gets a gradient, and
            gradient() returns None.
        Evidence: tour.evidence.network.gradient_tapes.gradient_tape
        Proof: tests/tour/evidence/test_autodiff.py::test_persistent_tapes_second_derivatives_and_stop_gradient
        """
        with tf.GradientTape() as tape:
            outputs = model({name: batch[name] for name in model.input}, training=True)
            loss = tf.reduce_sum(loss_fn(batch[label], tf.cast(outputs, tf.float32))) / batch_size
            total = loss + sum(model.losses) / (replicas * settings["accumulate"])
        # An embedding row that several examples share comes as several slices; Adam would square each separately.
        return loss, [tf.convert_to_tensor(grad) for grad in tape.gradient(total, model.trainable_variables)]

    compiled = tf.function(gradients, autograph=False, jit_compile=True) if settings["xla"] else gradients

    def replica_step(batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Run one replica's part of a step: the gradients of its slice, then the update.

        Question: B12
        Answer: Run the forward pass and the loss inside the tape, add the layers' penalties, take gradients of the
            trainable variables outside it, clip them if needed, and let the optimizer apply them. It pays where fit is
            not enough: gradient accumulation, several losses, gradient penalties, or strategies under which fit
            fails. Keep the whole step in one tf.function, and monitor gradient norms by layer: zero or exploding norms
            reveal errors. Here it matches the Trainer's step.
        Evidence: tour.evidence.network.autodiff.handwritten_step
        Proof: tests/tour/evidence/test_autodiff.py::test_a_step_written_out_equals_the_trainers
        """
        parts = {name: tf.split(value, settings["accumulate"]) for name, value in batch.items()}
        loss, gradient_sums = compiled({name: part[0] for name, part in parts.items()})
        for index in range(1, settings["accumulate"]):
            part_loss, part_gradients = compiled({name: part[index] for name, part in parts.items()})
            pairs = zip(gradient_sums, part_gradients, strict=True)
            loss, gradient_sums = loss + part_loss, [total + part for total, part in pairs]
        if settings["clip_norm"]:
            gradient_sums = _clip_gradients(gradient_sums, settings["clip_norm"], replicas)
        optimizer.apply(gradient_sums, model.trainable_variables)
        return loss

    # No branch of a step depends on a tensor's value; AutoGraph's search for one takes a fifth of the time to the first step.
    @tf.function(autograph=False)
    def train_step(stream: Iterator[Any]) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(replica_step, args=(next(stream),)), axis=None)

    return train_step


def _clip_gradients(gradients: list[tf.Tensor], norm: float, replicas: int) -> list[tf.Tensor]:
    """Clip the gradients of the global batch to a global norm; divide by replicas, since the optimizer sums over them."""
    if replicas > 1:
        gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    return [clipped / replicas for clipped in tf.clip_by_global_norm(gradients, norm)[0]]


def create_runner(
    strategy: tf.distribute.Strategy,
    saver: CheckpointSaver,
    train_step: Callable[[Any], Any],
    feed: Feed,
    task: ClusterTask,
    position: TrainingPosition,
    callback_list: keras.callbacks.CallbackList,
) -> Callable[[int], None]:
    """Return the function that runs a number of steps under the strategy and records their losses."""
    share = strategies.compute_share(strategy, task)
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        return _create_scheduler(strategy, saver, train_step, feed, position, callback_list)
    stream = iter(strategy.distribute_datasets_from_function(lambda _: feed(position.step, share)))
    step = train_step
    if task.count("worker") > 1:
        handler = _create_preemption_handler(saver)
        step = lambda batches: handler.run(train_step, batches)  # noqa: E731

    def run(steps: int) -> None:
        for _ in range(steps):
            if saver.terminated.is_set():
                saver.stop()
            callback_list.on_train_batch_begin(position.step)
            position.losses.append(step(stream))
            callback_list.on_train_batch_end(position.step)
            position.step += 1

    return run


def _create_preemption_handler(saver: CheckpointSaver) -> Any:
    """TensorFlow's preemption handler: the worker that gets SIGTERM informs the others; all stop after the same step."""
    saver.handles_sigterm = False
    return tf.distribute.experimental.PreemptionCheckpointHandler(
        tf.distribute.cluster_resolver.TFConfigClusterResolver(),
        saver.reader,
        termination_config=tf.distribute.experimental.TerminationConfig(
            exit_fn=saver.stop, save_fn=lambda *_: None, grace_period=0
        ),
    )


def _create_scheduler(
    strategy: tf.distribute.Strategy,
    saver: CheckpointSaver,
    train_step: Callable[[Any], Any],
    feed: Feed,
    position: TrainingPosition,
    callback_list: keras.callbacks.CallbackList,
) -> Callable[[int], None]:
    """Schedule steps on whichever worker is free; if a worker dies, another repeats its step."""
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
            count = min(steps, SCHEDULED_STEPS)
            callback_list.on_train_batch_begin(position.step)
            results = [coordinator.schedule(train_step, args=(stream,)) for _ in range(count)]
            coordinator.join()
            position.losses += coordinator.fetch(results)
            callback_list.on_train_batch_end(position.step)
            position.step, steps = position.step + count, steps - count
            # Workers increment the counter without waiting for each other, and some increments are lost.
            saver.callbacks[-1].model.optimizer.iterations.assign(position.step)

    return run
