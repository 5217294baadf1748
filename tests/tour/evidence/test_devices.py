"""Evidence on devices: placement of operations, and soft placement that is restored."""

from pathlib import Path

import pytest
import tensorflow as tf

from models.catalog import CASES
from tour.evidence.context import Context
from tour.evidence.network import devices

pytestmark = pytest.mark.system


def test_operations_are_found_on_the_device_they_ran_on() -> None:
    @tf.function
    def product(x: tf.Tensor) -> tf.Tensor:
        with tf.device("/CPU:0"):
            return tf.matmul(x, x)

    rows = {device: kinds for device, _, kinds in devices.operations_by_device(lambda: product(tf.ones((3, 3))))}
    (kinds,) = (kinds for device, kinds in rows.items() if device.endswith("CPU:0"))
    assert "MatMul" in kinds
    assert devices.operations_by_device(lambda: None) == ()


@pytest.mark.parametrize("before", [True, False])
def test_requesting_a_gpu_restores_soft_placement(before: bool) -> None:
    tf.config.set_soft_device_placement(before)
    try:
        (_, soft), (_, hard) = devices.request_gpu()
        assert tf.config.get_soft_device_placement() is before
    finally:
        tf.config.set_soft_device_placement(True)
    if tf.config.list_physical_devices("GPU"):
        assert "GPU:0" in soft and "GPU:0" in hard
    else:
        assert soft.endswith("CPU:0") and hard.startswith("InvalidArgumentError")
        assert "no GPU" in devices.gpu_support().value


@pytest.mark.parametrize("case", CASES)
def test_every_operation_of_a_step_has_a_device(pushed_home: Path, case: str) -> None:
    devices_table, _, placement, *_ = devices.device_placement(Context.of(pushed_home, case))
    assert sum(row[1] for row in placement.rows) > 100
    logical = {device.name for device in tf.config.list_logical_devices()}
    assert all(any(row[0].endswith(name.removeprefix("/device")) for name in logical) for row in placement.rows)
    assert len(devices_table.rows) == len(tf.config.list_physical_devices())
