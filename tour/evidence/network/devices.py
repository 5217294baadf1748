"""Evidence on devices: those that TensorFlow finds, the placement of a step's operations, and the settings for it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context as eager

from tour.evidence.context import Context
from tour.evidence.result_types import Number, Result, Table
from tour.evidence.training import one_step as steps

FREQUENT = 4
GPU = "/GPU:0"
# Build facts that explain why a machine uses no GPU.
BUILT = ("is_cuda_build", "cuda_version", "cudnn_version")


def device_placement(context: Context) -> list[Result]:
    """B8: the devices that TensorFlow finds, the device of each operation of the Trainer's step, and the settings for it."""
    step = steps.load_step(context)
    compiled, stream, losses = step.compiled(), step.stream(), []
    placement = operations_by_device(lambda: losses.append(float(compiled(stream))))
    return [
        list_devices(),
        gpu_support(),
        Table(
            "Devices of the operations in one training step",
            ("device", "operations", "most frequent operations"),
            placement,
        ),
        Number("Loss of this step", losses[0], f"on {len(step.batch[step.label])} rows of the train split"),
        Table(f"Matrix product under tf.device('{GPU}')", ("soft placement", "device or error"), request_gpu()),
        Table("Settings for the placement", ("setting", "value now", "effect"), placement_settings()),
    ]


def list_devices() -> Table:
    """List every physical device with its kind and name."""
    rows = []
    for device in tf.config.list_physical_devices():
        details = tf.config.experimental.get_device_details(device) if device.device_type == "GPU" else {}
        rows.append((device.device_type, device.name, details.get("device_name", "")))
    return Table("Devices that TensorFlow finds", ("kind", "name", "description"), tuple(rows))


def gpu_support() -> Number:
    """Whether there is a GPU, and whether this build of TensorFlow supports one."""
    build = tf.sysconfig.get_build_info()
    build_facts = ", ".join(f"{name} {build[name]}" for name in BUILT if name in build)
    count = len(tf.config.list_physical_devices("GPU"))
    text = f"{count} GPU" if count else "no GPU: everything runs on the CPU"
    return Number("GPU", text, f"(TensorFlow was built with {build_facts})")


def operations_by_device(call: Callable[[], Any]) -> tuple[tuple[str, int, str], ...]:
    """One row per device: the number of operations that it ran in a call, as partitioned by the executor."""
    with record_run_metadata() as metadata:
        call()
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for function in metadata().function_graphs:
        for graph in function.partition_graphs:
            for node in graph.node:
                kinds[node.device or "not placed"][node.op] += 1
    return tuple(
        (device, count.total(), ", ".join(f"{kind} {number}" for kind, number in count.most_common(FREQUENT)))
        for device, count in sorted(kinds.items())
    )


def request_gpu() -> tuple[tuple[str, str], ...]:
    """Request a GPU with and without soft placement; return the device that was used, or the error."""
    before, rows = tf.config.get_soft_device_placement(), []
    try:
        for soft in (True, False):
            tf.config.set_soft_device_placement(soft)
            rows.append(("on" if soft else "off", _outcome()))
    finally:
        tf.config.set_soft_device_placement(before)
    return tuple(rows)


def placement_settings() -> tuple[tuple[str, str, str], ...]:
    """Settings for placement and memory, with their values in this process."""
    gpus = tf.config.list_physical_devices("GPU")
    growth = ", ".join(str(tf.config.experimental.get_memory_growth(gpu)) for gpu in gpus) or "no GPU to set it on"
    visible = ", ".join(device.name for device in tf.config.get_visible_devices())
    return (
        ("tf.device(name)", "not set", "requests a device for operations created in its scope"),
        (
            "set_soft_device_placement",
            str(tf.config.get_soft_device_placement()),
            "falls back to another device if the requested one is missing",
        ),
        ("set_visible_devices", visible, "hides devices; to be called before the first operation"),
        ("set_memory_growth", growth, "allocates GPU memory as needed instead of all at once"),
        (
            "set_log_device_placement",
            str(tf.debugging.get_log_device_placement()),
            "logs the device of every operation",
        ),
    )


@contextmanager
def record_run_metadata() -> Iterator[Callable[[], Any]]:
    """Record the run metadata of operations in the context; yield a function that returns it."""
    # TensorFlow 2 has no public API for the partitioned graphs.
    collector = eager.context()
    collector.enable_run_metadata()
    collector.export_run_metadata()  # discards what an earlier profile collected
    try:
        yield collector.export_run_metadata
    finally:
        collector.disable_run_metadata()


def _outcome() -> str:
    try:
        with tf.device(GPU):
            return tf.matmul(tf.ones((2, 2)), tf.ones((2, 2))).device
    except tf.errors.InvalidArgumentError as error:
        return f"{type(error).__name__}: {error.message.split('. ')[0]}"
