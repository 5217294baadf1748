"""Devices: which TensorFlow sees, where the operations of a step ran, and what moves them."""

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
# By name, so that a machine without a GPU can say why.
BUILT = ("is_cuda_build", "cuda_version", "cudnn_version")


def found_and_placed(context: Context) -> list[Result]:
    """B8: the devices that TensorFlow sees, where each operation of the Trainer's step ran, and what moves them."""
    step = steps.of(context)
    compiled, stream, losses = step.compiled(), step.stream(), []
    where = placed(lambda: losses.append(float(compiled(stream))))
    return [
        seen(),
        verdict(),
        Table(
            "Where the operations of one training step ran",
            ("device", "operations", "most frequent"),
            where,
        ),
        Number("Loss of that step", losses[0], f"on {len(step.batch[step.label])} rows of the train split"),
        Table(f"A matrix product under tf.device('{GPU}')", ("soft placement", "outcome"), asked()),
        Table("What decides", ("setting", "now", "what it does"), flags()),
    ]


def seen() -> Table:
    """Every physical device with what it is."""
    rows = []
    for device in tf.config.list_physical_devices():
        details = tf.config.experimental.get_device_details(device) if device.device_type == "GPU" else {}
        rows.append((device.device_type, device.name, details.get("device_name", "")))
    return Table("Devices that TensorFlow sees", ("kind", "name", "what"), tuple(rows))


def verdict() -> Number:
    """Whether there is a GPU, and whether this TensorFlow could use one."""
    build = tf.sysconfig.get_build_info()
    made = ", ".join(f"{name} {build[name]}" for name in BUILT if name in build)
    count = len(tf.config.list_physical_devices("GPU"))
    text = f"{count} GPU" if count else "no GPU here: everything runs on the CPU"
    return Number("GPU", text, f"built with {made}")


def placed(call: Callable[[], Any]) -> tuple[tuple[str, int, str], ...]:
    """A row a device: how many operations of a function's first call it ran, as the executor partitioned them."""
    with recorded() as metadata:
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


def asked() -> tuple[tuple[str, str], ...]:
    """Asking for a GPU with and without soft placement: the device that it ran on, or the error."""
    before, rows = tf.config.get_soft_device_placement(), []
    try:
        for soft in (True, False):
            tf.config.set_soft_device_placement(soft)
            rows.append(("on" if soft else "off", _outcome()))
    finally:
        tf.config.set_soft_device_placement(before)
    return tuple(rows)


def flags() -> tuple[tuple[str, str, str], ...]:
    """The settings that move operations or the memory they get, as they stand in this process."""
    gpus = tf.config.list_physical_devices("GPU")
    growth = ", ".join(str(tf.config.experimental.get_memory_growth(gpu)) for gpu in gpus) or "no GPU to set it on"
    visible = ", ".join(device.name for device in tf.config.get_visible_devices())
    return (
        ("tf.device(name)", "not set", "asks for a device for what is created inside"),
        ("set_soft_device_placement", str(tf.config.get_soft_device_placement()), "falls back where it cannot be had"),
        ("set_visible_devices", visible, "hides devices; before the first operation"),
        ("set_memory_growth", growth, "takes GPU memory as needed and not all at once"),
        (
            "set_log_device_placement",
            str(tf.debugging.get_log_device_placement()),
            "logs the device of every operation",
        ),
    )


@contextmanager
def recorded() -> Iterator[Callable[[], Any]]:
    """Collects the run metadata of what runs inside; the function that is given returns it."""
    # There is no public way to the graphs as partitioned in TensorFlow 2.
    collector = eager.context()
    collector.enable_run_metadata()
    collector.export_run_metadata()  # what a profile collected before is not ours
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
