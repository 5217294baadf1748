"""The distribution strategies that the settings can select, and this process's share of the batches."""

import os
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from models.input import BatchShare
from models.training.distribute.job import ClusterTask


def create(settings: Mapping[str, Any], task: ClusterTask, distribute: Any = tf.distribute) -> tf.distribute.Strategy:
    """Create the configured strategy; call this before TensorFlow is initialised in the process.

    - none: one device, TensorFlow's default strategy;
    - mirrored: all GPUs of this machine, or ``workers`` logical CPU devices if there are none, in one process;
    - multiworker: one process for each worker, gradients summed by collectives, configured by ``TF_CONFIG``;
    - parameter-server: this process coordinates, workers compute, parameter servers store the variables;
    - tpu: all cores of the TPU in ``TPU_NAME``.

    Args:
        settings: The training settings ``strategy`` and ``workers``.
        task: This process's task in the cluster.
        distribute: ``tf.distribute``; replaced in tests.

    Question: A29
    Answer: You replicate the model and split each global batch. Each replica computes gradients on its slice; an
        all-reduce sums them and every replica applies the same update, so the result equals one device on the whole
        batch. Parameter servers hold variables separately; workers update them asynchronously, so slow workers delay
        nobody but gradients become stale. A larger batch needs another learning rate, and workers die, so you need
        checkpoints and restarts. Here all strategies reach the same weights.
    Evidence: tour.evidence.training.distribution.strategies_agree
    Proof: tests/models/training/distribute/test_strategies.py::test_the_same_weights_under_every_strategy

    Question: B13
    Answer: For several GPUs in one machine use MirroredStrategy; for several machines MultiWorkerMirroredStrategy, one
        process each, configured by TF_CONFIG. NCCL or a ring sums the gradients. Create everything with variables
        inside scope(): model, optimizer, metrics, checkpoint. Shard datasets by input pipeline, divide losses by the
        global batch size, and let only the chief write files. On Kubernetes an Indexed Job's index gives TF_CONFIG.
        Here real worker processes train one model.
    Evidence: tour.evidence.training.distribution.processes_of_a_cluster
    Proof:
        tests/models/training/distribute/test_strategies.py::test_two_workers_get_their_tasks_and_write_one_result
    """
    match settings["strategy"]:
        case "none":
            return tf.distribute.get_strategy()
        case "mirrored":
            return _create_mirrored(settings["workers"])
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


def compute_share(strategy: tf.distribute.Strategy, task: ClusterTask) -> BatchShare:
    """The slices of a global batch that this process's input pipeline reads; all of it under parameter servers."""
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        return BatchShare()
    replicas = strategy.num_replicas_in_sync
    pipelines = max(1, task.count("worker") + task.count("chief"))
    count = replicas // pipelines
    position = task.index + (task.count("chief") if task.kind == "worker" else 0)
    return BatchShare(replicas, position * count, count)


def check_model(model: keras.Model, settings: Mapping[str, Any], replicas: int) -> None:
    """Check that the model is compatible with the settings.

    Raises:
        ValueError: for XLA with batch normalisation whose moments are summed over replicas.
    """
    synchronized = [layer.name for layer in model._flatten_layers() if getattr(layer, "synchronized", False)]
    if settings["xla"] and replicas > 1 and synchronized:
        raise ValueError(
            f"xla cannot be combined with {settings['strategy']} here: {synchronized[0]} sums its moments over {replicas} "
            "replicas inside the compiled step. Turn off xla or batch normalisation."
        )


def _create_mirrored(workers: int) -> tf.distribute.Strategy:
    """Mirrored strategy over all GPUs of this machine, or over logical devices of its CPU.

    Question: B8
    Answer: Install `tensorflow[and-cuda]`, which brings the CUDA libraries, and check list_physical_devices. Operations
        with a GPU kernel run on GPU:0 automatically, others on the CPU; tf.device requests a device, soft placement
        allows a fallback, CUDA_VISIBLE_DEVICES hides devices. The trap is memory: TensorFlow takes all of it unless you
        set memory growth before the first operation. Then use mixed precision and make sure the input keeps up. Here we
        list what was placed where.
    Evidence: tour.evidence.network.devices.device_placement
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
    """Resolve, connect to and initialise the TPU, in this order and before any other operation of the process."""
    name = os.environ.get("TPU_NAME", "")
    try:
        resolver = distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        config.experimental_connect_to_cluster(resolver)
        tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError, OSError) as error:
        raise ValueError(
            f"No TPU was found ({str(error).splitlines()[0][:160]}): set TPU_NAME on a TPU host, or use another strategy."
        ) from None
    return distribute.TPUStrategy(resolver)
