"""Traces of the profiler: durations by operation, and the trace of a real function."""

from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks import profiler_trace


def test_durations_are_summed_by_operation(tmp_path: Path) -> None:
    space = xplane_pb2.XSpace()
    plane = space.planes.add(name="/host:CPU")
    for number, name in enumerate(("net/a:MatMul", "net/b:Relu", "ExecutorState::Process", "EagerExecute: x"), 1):
        plane.event_metadata[number].name = name
    for number, milliseconds in ((1, 2), (2, 1), (1, 3), (3, 50), (4, 50)):
        plane.lines.add().events.add(metadata_id=number, duration_ps=milliseconds * 10**9)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "host.xplane.pb").write_bytes(space.SerializeToString())
    assert profiler_trace.read_operations(tmp_path) == [
        profiler_trace.Operation("net/a", "MatMul", 2, 5.0),
        profiler_trace.Operation("net/b", "Relu", 1, 1.0),
    ]


def test_missing_trace_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no profiler trace"):
        profiler_trace.read_operations(tmp_path)


def test_slowest_operation_comes_first(tmp_path: Path) -> None:
    x = tf.ones((700, 700))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(x, tf.matmul(x, x))) + 1.0)
    product()
    first, *others = profiler_trace.trace_call(product, 5, tmp_path)
    assert "MatMul" in first.kind and first.calls == 5 and first.milliseconds > 0
    assert {"Sum", "AddV2"} & {operation.kind.removeprefix("_Mkl") for operation in others}
