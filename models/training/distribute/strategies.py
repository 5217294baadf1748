"""The distribution strategies that a run can name, and what this process is in one."""

import os
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from models.input import Share
from models.training.distribute.job import Task


def create(settings: Mapping[str, Any], task: Task, distribute: Any = tf.distribute) -> tf.distribute.Strategy:
    """The strategy that ``settings`` name; call it before TensorFlow has done anything else in the process.

    - none: one device, TensorFlow's default strategy;
    - mirrored: all GPUs of this machine, or ``workers`` logical devices where there is none, one process;
    - multiworker: a process a worker, gradients summed by a ring of collectives, from ``TF_CONFIG``;
    - parameter-server: this process coordinates, workers compute, parameter servers keep the variables;
    - tpu: all cores of the TPU that ``TPU_NAME`` names.

    Args:
        task: What this process is.
        distribute: ``tf.distribute``; a stand-in in tests.

    Question: A29
    Answer: Each replica computes gradients on its slice of the global batch; an all-reduce sums them and every replica
        applies the same update, so the result equals one device on the whole batch (Mirrored, MultiWorker, TPU).
        Parameter servers keep variables apart; workers update them without waiting, so slow ones delay nobody but
        gradients get stale. A larger global batch wants another learning rate. Workers die: checkpoints and restarts
        belong to it.
    Evidence: tour.evidence.training.distribution.strategies_agree
    Proof: tests/models/training/distribute/test_strategies.py::test_the_same_weights_under_every_strategy

    Question: B13
    Answer: Several GPUs of one machine: MirroredStrategy. Several machines: MultiWorkerMirroredStrategy, one process
        each, told its peers and its own place by TF_CONFIG; NCCL or a ring sums gradients. Inside scope() goes all that
        creates variables: model, optimizer, metrics, checkpoint. Datasets are cut by input pipeline, losses divided by
        the global batch, files written by the chief. On Kubernetes an Indexed Job sets TF_CONFIG from its index.
    Evidence: tour.evidence.training.distribution.processes_of_a_cluster
    Proof: tests/models/training/distribute/test_strategies.py::test_two_workers_are_told_their_places_and_end_with_one_result
    """
    match settings["strategy"]:
        case "none":
            return tf.distribute.get_strategy()
        case "mirrored":
            return _mirrored(settings["workers"])
        case "multiworker":
            options = distribute.experimental.CommunicationOptions(
                implementation=distribute.experimental.CommunicationImplementation.AUTO
            )
            return distribute.MultiWorkerMirroredStrategy(communication_options=options)
        case "parameter-server":
            return distribute.ParameterServerStrategy(distribute.cluster_resolver.TFConfigClusterResolver())
        case "tpu":
            return tpu_strategy(distribute, tf.tpu, tf.config)
    raise ValueError(f"There is no strategy '{settings['strategy']}'.")


def share(strategy: tf.distribute.Strategy, task: Task) -> Share:
    """Which slices of a global batch this process's input pipeline reads; the whole of it under parameter servers."""
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        return Share()
    replicas = strategy.num_replicas_in_sync
    pipelines = max(1, task.count("worker") + task.count("chief"))
    mine = replicas // pipelines
    place = task.index + (task.count("chief") if task.kind == "worker" else 0)
    return Share(replicas, place * mine, mine)


def check_model(model: keras.Model, settings: Mapping[str, Any], replicas: int) -> None:
    """Refuses a model that does not go with the switches.

    Raises:
        ValueError: for XLA over batch normalisation whose moments are summed over replicas.
    """
    synchronized = [layer.name for layer in model._flatten_layers() if getattr(layer, "synchronized", False)]
    if settings["xla"] and replicas > 1 and synchronized:
        raise ValueError(
            f"xla does not go with {settings['strategy']} here: {synchronized[0]} sums its moments over {replicas} replicas in "
            "the middle of what would be compiled. Leave out xla or batch normalisation."
        )


def _mirrored(workers: int) -> tf.distribute.Strategy:
    """All GPUs of this machine, or logical devices of its CPU.

    Question: B8
    Answer: At start TensorFlow looks for the driver and for the CUDA libraries it was built with, which the extra
        `tensorflow[and-cuda]` installs; list_physical_devices shows what it found. An operation with a GPU kernel goes to
        GPU:0 by itself, another to the CPU; tf.device asks for one, soft placement allows a fallback, CUDA_VISIBLE_DEVICES
        hides. Set memory growth before the first operation, since all memory is taken otherwise. Then use mixed precision,
        and make sure that input keeps up.
    Evidence: tour.evidence.network.devices.found_and_placed
    Proof: tests/tour/evidence/test_devices.py::test_operations_are_found_on_the_device_they_ran_on
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        return tf.distribute.MirroredStrategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.list_logical_devices("CPU") if tf.config.get_logical_device_configuration(cpu) else []) < workers:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * workers)
    devices = [f"CPU:{index}" for index in range(workers)]
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())


def tpu_strategy(distribute: Any, tpu: Any, config: Any) -> tf.distribute.Strategy:
    """Resolver, connect, initialise, strategy: in this order, and before any other operation of the process."""
    name = os.environ.get("TPU_NAME", "")
    try:
        resolver = distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        config.experimental_connect_to_cluster(resolver)
        tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError, OSError) as error:
        raise ValueError(
            f"No TPU was found ({str(error).splitlines()[0][:160]}): set TPU_NAME on a TPU host, or take another strategy."
        ) from None
    return distribute.TPUStrategy(resolver)
