"""Input: how fast each way of reading is, whether a step waits for it, and what it costs to load everything."""

import ctypes
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.data.experimental.ops import iterator_model_ops

from tour.evidence.benchmark_reports import tables
from tour.evidence.context import Context
from tour.evidence.data.raw_examples import MIB, resident
from tour.evidence.result_types import Number, Result, Table
from tour.evidence.training import one_step as steps
from tour.measure import peak_memory, reading_ladder

SECONDS = 0.25
TUNING_SECONDS = 1.0  # how long AUTOTUNE gets before its choices are read
STEPS = 25
TIMES = (1, 4)
# All of them are in the benchmark: what can be told in a few seconds.
SHOWN = ("naive", "interleaved", "batched", "prefetched", "cached", "streamed", "full")
SETTINGS = ("parallelism", "buffer_size", "cycle_length")


def speeds(context: Context) -> list[Result]:
    """A6: examples a second from naive to what the Trainer does, beside the limit, and whether the step waits."""
    split = split_of(context)
    limit = reading_ladder.rate(reading_ladder.records(split), SECONDS)
    found = {name: reading_ladder.rate(reading_ladder.WAYS[name](split), SECONDS, warm(split, name)) for name in SHOWN}
    rows = tuple(
        (name, told(reading_ladder.WAYS[name]), rate, rate / found["naive"], rate / limit)
        for name, rate in found.items()
    )
    columns = ("way", "what it does", "examples/s", "times naive", "of the limit")
    return [
        size(context),
        Table("Train split, measured now", columns, (*rows, ("limit", told(reading_ladder.records), limit, "", 1.0))),
        waits(context, split, ("naive", "full")),
        *tables("input", "speeds", context.case.name),
    ]


def tuned(context: Context) -> list[Result]:
    """B10: the settings that AUTOTUNE chose, the time in each part, and waiting by way of reading."""
    split = split_of(context)
    iterator = iter(reading_ladder.prefetched(split).repeat())
    started = time.perf_counter()
    while time.perf_counter() - started < TUNING_SECONDS:
        next(iterator)
    return [
        size(context),
        Table(
            f"A pipeline with AUTOTUNE after {TUNING_SECONDS:g} s, last part first",
            ("part", "elements", "time in it, ms", "chosen"),
            chosen(iterator),
        ),
        waits(context, split, ("naive", "batched", "prefetched", "full")),
        *tables("input", "waiting", context.case.name),
    ]


def arrays_and_streams(context: Context) -> list[Result]:
    """B24: time and memory of loading everything in NumPy and of streaming, on the same data once and four times."""
    rows = []
    for name, way in (("streamed", reading_ladder.streamed), ("numpy", peak_memory.arrays)):
        # The first pass pays for tracing, threads and buffers.
        grown(partial(way, split_of(context, 1)))
        for times in TIMES:
            count, first, seconds, extra = grown(partial(way, split_of(context, times)))
            rows.append((name, f"{times}×", count, first, seconds, extra / MIB))
    columns = ("way", "train split", "examples", "first batch, s", "one pass, s", "memory, MiB")
    return [
        size(context),
        Table("Memory over what the process held before, sampled at each batch", columns, tuple(rows)),
        Number("Growth with the data, NumPy", (rows[3][5] - rows[2][5]) / (TIMES[1] - TIMES[0]), "MiB a split"),
        Number("Growth with the data, streamed", (rows[1][5] - rows[0][5]) / (TIMES[1] - TIMES[0]), "MiB a split"),
        *tables("input", "memory", context.case.name),
    ]


def size(context: Context) -> Table:
    """What is read: the train split as its files have it, and as the Trainer counted it."""
    shards, told = context.shards("train"), context.training
    row = (told["rows"], len(shards), sum(Path(path).stat().st_size for path in shards), told["batch_size"])
    return Table("The train split", ("examples", "shards", "bytes on disk", "examples a batch"), (row,))


def split_of(context: Context, times: int = 1) -> reading_ladder.Split:
    """The train split as the Trainer reads it, its shards several times if asked."""
    network = context.case.load("model")
    keep = (*network.INPUTS, network.LABEL)
    return reading_ladder.Split(
        context.shards("train") * times, context.transform, keep, context.training["batch_size"]
    )


def warm(split: reading_ladder.Split, name: str) -> int:
    """Batches before a way is at its speed: what is kept has to be read once."""
    return _batches(split) + 2 if name == "cached" else 2


def told(way: Callable[..., Any]) -> str:
    """The first line of a way's docstring."""
    return (way.__doc__ or "").strip().splitlines()[0]


def waits(context: Context, split: reading_ladder.Split, ways: Sequence[str]) -> Table:
    """The share of its time that a training step waits for a batch, by way of reading."""
    step = steps.of(context)
    compiled, stream = step.compiled(), step.stream()
    compiled(stream)
    rows = []
    for name in ways:
        wait, work = reading_ladder.waiting(reading_ladder.WAYS[name](split), lambda: compiled(stream), STEPS)
        rows.append((name, wait, work, wait / (wait + work)))
    title = f"Waiting of a training step on {split.batch_size} rows, mean of {STEPS}"
    return Table(title, ("input", "waits, ms", "works, ms", "share of waiting"), tuple(rows))


def chosen(iterator: Any) -> tuple[tuple[str, int, float, str], ...]:
    """Parts of a running input with their elements, time in them, and what AUTOTUNE set, from TensorFlow's own model."""
    nodes = iterator_model_ops.get_model_proto(iterator).nodes
    rows = []
    for number in sorted(nodes):
        node = nodes[number]
        values = [f"{one.name} {one.value:g}" for one in node.parameters if one.tunable and one.name in SETTINGS]
        if node.num_elements and node.name not in ("Root", "FlatMap", "TensorSlice"):
            rows.append((node.name, node.num_elements, node.processing_time / 1e6, ", ".join(values)))
    return tuple(rows)


def grown(make: Callable[[], Iterable[Mapping[str, Any]]]) -> tuple[int, float, float, int]:
    """Rows, seconds to the first batch and in all, and the bytes by which the process grew at its largest."""
    # Freed memory stays with the process otherwise, and what is taken next would seem to cost nothing.
    ctypes.CDLL(None).malloc_trim(0)
    before, most, rows, first = resident(), 0, 0, 0.0
    started = time.perf_counter()
    for batch in make():
        first = first or time.perf_counter() - started
        rows += reading_ladder.count(batch)
        most = max(most, resident() - before)
    return rows, first, time.perf_counter() - started, most


def _batches(split: reading_ladder.Split) -> int:
    return sum(1 for _ in tf.data.TFRecordDataset(list(split.paths)).batch(split.batch_size))
