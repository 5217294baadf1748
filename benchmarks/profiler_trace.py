"""Read traces of TensorFlow's profiler without its web pages: which operations took the time."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

PICOSECONDS = 1e9  # per millisecond
HOST = "/host:CPU"


@dataclass(frozen=True)
class Operation:
    """All calls of one operation in a trace.

    Attributes:
        name: Name in the graph.
        kind: Type, such as MatMul.
        calls: Number of calls.
        milliseconds: Total duration.
    """

    name: str
    kind: str
    calls: int
    milliseconds: float


def trace_call(call: Callable[[], Any], times: int, folder: Path) -> list[Operation]:
    """Profile ``times`` calls of a function that was traced before; return its operations, the slowest first."""
    tf.profiler.experimental.start(str(folder))
    try:
        for _ in range(times):
            call()
    finally:
        tf.profiler.experimental.stop()
    return read_operations(folder)


def read_operations(folder: Path) -> list[Operation]:
    """Return the operations in the traces under a folder, the longest total duration first.

    Raises:
        FileNotFoundError: if there is no trace.
    """
    paths = sorted(folder.rglob("*.xplane.pb"))
    if not paths:
        raise FileNotFoundError(f"There is no profiler trace under {folder}.")
    durations: dict[tuple[str, str], list[float]] = defaultdict(list)
    for path in paths:
        for plane in xplane_pb2.XSpace.FromString(path.read_bytes()).planes:
            for key, milliseconds in _read_events(plane):
                durations[key].append(milliseconds)
    summaries = [Operation(name, kind, len(times), sum(times)) for (name, kind), times in durations.items()]
    return sorted(summaries, key=lambda operation: -operation.milliseconds)


def _read_events(plane: Any) -> Any:
    """Yield operations on host and devices: the profiler writes them as ``name:Type``, other events without a colon."""
    if plane.name != HOST and not plane.name.startswith("/device:"):
        return
    names = {key: metadata.name for key, metadata in plane.event_metadata.items()}
    for line in plane.lines:
        for event in line.events:
            name, _, kind = names[event.metadata_id].rpartition(":")
            if name and kind.isidentifier() and ":" not in name:
                yield (name, kind), event.duration_ps / PICOSECONDS
