"""Evidence on examples: one example from raw record to tensor, and the memory of streaming."""

import resource
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import tensorflow as tf

from models import input as reading
from models import spans
from tour.evidence.context import Context
from tour.evidence.result_types import Number, Result, Table

if TYPE_CHECKING:
    from models.input import Transform

REPEATS = 10
WARM = 16
PREVIEW = 36
MIB = 1 << 20
PAGE = resource.getpagesize()
Step = tuple[str, str, str, str, int, str]


def raw_example_to_tensor(context: Context) -> list[Result]:
    """A2: an example of the eval split from its raw record to the tensors that the network reads."""
    record = next(iter(tf.data.TFRecordDataset(context.shards("eval")).take(1)))
    rows = example_steps(record, context.transform, context.network.INPUTS)
    key = tf.train.Example.FromString(record.numpy()).features.feature[context.case.key].bytes_list.value[0].decode()
    raw = [("raw record", name, type(value).__name__, "", 0, _preview(value)) for name, value in _raw(context, key)]
    columns = ("step", "name", "dtype", "shape", "rank", "value")
    return [
        Table(f"From raw record to tensor: {context.case.key} {key}", columns, tuple(raw + rows)),
        _immutable(record),
    ]


def memory_of_streaming(context: Context) -> list[Result]:
    """B22: shards and bytes of the train split, and the memory for streaming it once and ten times."""
    shards = context.shards("train")
    keep = context.network.INPUTS
    usage = {
        times: streaming_peak(partial(reading.dataset, shards * times, context.transform, keep))
        for times in (1, REPEATS)
    }
    sizes = [Path(path).stat().st_size for path in shards]
    rows = tuple(
        (f"{times}×", times * sum(sizes) / MIB, count, array_bytes / MIB, growth / MIB)
        for times, (count, array_bytes, growth) in usage.items()
    )
    columns = ("size of the train split", "on disk, MiB", "examples", "as one array, MiB", "peak while streaming, MiB")
    growth = (usage[REPEATS][2] - usage[1][2]) / MIB
    return [
        Table("Shards of the train split", ("shards", "bytes"), ((len(shards), sum(sizes)),)),
        Table("Growth of the process's memory", columns, rows),
        Number(f"Growth of the peak from 1× to {REPEATS}× the data", growth, "MiB"),
    ]


def example_steps(record: tf.Tensor, transform: "Transform", inputs: Sequence[str]) -> list[Step]:
    """Steps of an example: serialized, parsed features, inputs of the network; each with dtype, shape and rank."""
    serialized = tf.reshape(record, [1])
    parsed = tf.io.parse_example(serialized, transform.raw)
    dense = transform.parse(serialized)
    rows = [_step("tf.Example", "examples", serialized)]
    rows += [_step("parsed", name, parsed[name]) for name in sorted(parsed)]
    return rows + [_step("transformed", name, dense[name]) for name in inputs]


def streaming_peak(make: Callable[[], Iterable[Mapping[str, Any]]]) -> tuple[int, int, int]:
    """Read a stream; return its rows, their size in bytes as arrays, and the peak growth of the process in bytes."""
    # Warm up first: tracing, buffers and thread pools take memory that does not grow with the data.
    for _, _batch in zip(range(WARM), make(), strict=False):
        pass
    before, peak_growth, rows, array_bytes = resident_bytes(), 0, 0, 0
    for batch in make():
        rows += len(next(iter(batch.values())))
        array_bytes += sum(int(np.prod(value.shape)) * value.dtype.size for value in batch.values())
        peak_growth = max(peak_growth, resident_bytes() - before)
    return rows, array_bytes, max(peak_growth, 0)


def resident_bytes() -> int:
    """Resident memory of this process now, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def _step(step: str, name: str, value: Any) -> Step:
    if isinstance(value, tf.SparseTensor):
        return (
            step,
            name,
            f"sparse {value.dtype.name}",
            str(tuple(value.dense_shape.numpy())),
            2,
            _preview(value.values),
        )
    return step, name, value.dtype.name, str(tuple(value.shape)), len(value.shape), _preview(value)


def _preview(value: Any) -> str:
    values = value.numpy().ravel()[:4] if isinstance(value, tf.Tensor) else value
    if isinstance(values, np.ndarray):
        text = " ".join(
            f"{number:.3g}" if isinstance(number, float | np.floating) else str(number) for number in values
        )
    else:
        text = str(values)
    return text if len(text) <= PREVIEW else text[: PREVIEW - 1] + "…"


def _raw(context: Context, key: str) -> list[tuple[str, Any]]:
    """Columns of the raw record with the given key."""
    run = context.run.facts
    window = spans.select_window(Path(run["source"]), *(int(bound) for bound in run["spans"].split(":")))
    read, settings = context.case.load("data").read_raw, context.settings["data"]
    # Most cases have the eval split in their last spans.
    for batch in (batch for folder in reversed(window.values()) for batch in read(folder, settings)):
        row = pc.index(batch[context.case.key], key).as_py()
        if row >= 0:
            return [(name, batch[name][row].as_py()) for name in batch.schema.names]
    raise ValueError(
        f"The record {key} is missing in the raw spans in {run['source']}. Restore the spans that the run read."
    )


def _immutable(_record: tf.Tensor) -> Table:
    """Try to change a tensor and a variable in place."""
    tensor = tf.constant([1.0, 2.0])
    try:
        tensor[0] = 3.0
        outcome = "changed"
    except TypeError as error:
        outcome = f"TypeError: {error}"
    variable = tf.Variable(tensor)
    variable[0].assign(3.0)
    return Table(
        "Changing a value in place",
        ("object", "outcome"),
        (("tf.Tensor", outcome), ("tf.Variable", str(variable.numpy()))),
    )
