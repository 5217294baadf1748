"""Evidence on input pipelines: speed of each way of reading, waiting of a training step, memory of loading everything."""

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
from tour.evidence.data.raw_examples import MIB, resident_bytes
from tour.evidence.result_types import Number, Result, Table
from tour.evidence.training import one_step as steps
from tour.measure import reading_ladder

SECONDS = 0.25
TUNING_SECONDS = 1.0  # time for AUTOTUNE to settle before its choices are read
STEPS = 25
TIMES = (1, 4)
# The ways that can be measured in a few seconds; the benchmark measures all.
SHOWN = ("naive", "interleaved", "batched", "prefetched", "cached", "streamed", "full")
SETTINGS = ("parallelism", "buffer_size", "cycle_length")


def reading_speeds(context: Context) -> list[Result]:
    """A6: examples per second from the naive way to the Trainer's, compared with the limit, and the waiting of a step."""
    split = train_split(context)
    limit = reading_ladder.measure_rate(reading_ladder.records(split), SECONDS)
    rates = {
        name: reading_ladder.measure_rate(reading_ladder.WAYS[name](split), SECONDS, warm_up_batches(split, name))
        for name in SHOWN
    }
    rows = tuple(
        (name, describe_way(reading_ladder.WAYS[name]), rate, rate / rates["naive"], rate / limit)
        for name, rate in rates.items()
    )
    columns = ("way", "description", "examples/s", "times naive", "share of the limit")
    return [
        split_size(context),
        Table(
            "Speed of reading the train split, measured now",
            columns,
            (*rows, ("limit", describe_way(reading_ladder.records), limit, "", 1.0)),
        ),
        waiting_of_step(context, split, ("naive", "full")),
        *tables("input", "speeds", context.case.name),
    ]


def autotune_settings(context: Context) -> list[Result]:
    """B10: the settings that AUTOTUNE chose, the time in each part of the pipeline, and the waiting for each way of reading."""
    split = train_split(context)
    iterator = iter(reading_ladder.prefetched(split).repeat())
    started = time.perf_counter()
    while time.perf_counter() - started < TUNING_SECONDS:
        next(iterator)
    return [
        split_size(context),
        Table(
            f"Input pipeline after {TUNING_SECONDS:g} s of AUTOTUNE, last part first",
            ("part", "elements", "processing time, ms", "settings chosen"),
            read_autotune_choices(iterator),
        ),
        waiting_of_step(context, split, ("naive", "batched", "prefetched", "full")),
        *tables("input", "waiting", context.case.name),
    ]


def arrays_and_streams(context: Context) -> list[Result]:
    """B24: time and memory of loading everything into NumPy and of streaming, on the data and on four times the data."""
    rows = []
    for name, way in (("streamed", reading_ladder.streamed), ("numpy", reading_ladder.load_all_into_numpy)):
        # A first pass, which includes tracing, threads and buffers, is not counted.
        measure_growth(partial(way, train_split(context, 1)))
        for times in TIMES:
            count, first, seconds, extra = measure_growth(partial(way, train_split(context, times)))
            rows.append((name, f"{times}×", count, first, seconds, extra / MIB))
    columns = ("way", "size of the train split", "examples", "first batch, s", "one pass, s", "memory, MiB")
    return [
        split_size(context),
        Table("Growth of the process's memory, sampled at each batch", columns, tuple(rows)),
        Number(
            "Growth of memory with the data, NumPy", (rows[3][5] - rows[2][5]) / (TIMES[1] - TIMES[0]), "MiB per split"
        ),
        Number(
            "Growth of memory with the data, streamed",
            (rows[1][5] - rows[0][5]) / (TIMES[1] - TIMES[0]),
            "MiB per split",
        ),
        *tables("input", "memory", context.case.name),
    ]


def split_size(context: Context) -> Table:
    """Size of the train split: its files, and the rows that the Trainer counted."""
    shards, training = context.shards("train"), context.training
    row = (training["rows"], len(shards), sum(Path(path).stat().st_size for path in shards), training["batch_size"])
    return Table("Size of the train split", ("examples", "shards", "bytes on disk", "examples per batch"), (row,))


def train_split(context: Context, times: int = 1) -> reading_ladder.Split:
    """Train split as the Trainer reads it; ``times`` repeats its shards."""
    network = context.network
    keep = (*network.INPUTS, network.LABEL)
    return reading_ladder.Split(
        context.shards("train") * times, context.transform, keep, context.training["batch_size"]
    )


def warm_up_batches(split: reading_ladder.Split, name: str) -> int:
    """Number of warm-up batches: a cache has to be filled by a whole pass first."""
    return _batches(split) + 2 if name == "cached" else 2


def describe_way(way: Callable[..., Any]) -> str:
    """First line of a way's docstring."""
    return (way.__doc__ or "").strip().splitlines()[0]


def waiting_of_step(context: Context, split: reading_ladder.Split, ways: Sequence[str]) -> Table:
    """Share of the time that a training step waits for its batch, for each way of reading."""
    step = steps.load_step(context)
    compiled, stream = step.compiled(), step.stream()
    compiled(stream)
    rows = []
    for name in ways:
        wait, work = reading_ladder.measure_waiting(reading_ladder.WAYS[name](split), lambda: compiled(stream), STEPS)
        rows.append((name, wait, work, wait / (wait + work)))
    title = f"Waiting of a training step for {split.batch_size} rows, mean of {STEPS} steps"
    return Table(title, ("way of reading", "waiting, ms", "step, ms", "share of waiting"), tuple(rows))


def read_autotune_choices(iterator: Any) -> tuple[tuple[str, int, float, str], ...]:
    """Parts of a running input pipeline: elements, processing time and AUTOTUNE's settings, from TensorFlow's model of it."""
    nodes = iterator_model_ops.get_model_proto(iterator).nodes
    rows = []
    for number in sorted(nodes):
        node = nodes[number]
        values = [
            f"{setting.name} {setting.value:g}"
            for setting in node.parameters
            if setting.tunable and setting.name in SETTINGS
        ]
        if node.num_elements and node.name not in ("Root", "FlatMap", "TensorSlice"):
            rows.append((node.name, node.num_elements, node.processing_time / 1e6, ", ".join(values)))
    return tuple(rows)


def measure_growth(make: Callable[[], Iterable[Mapping[str, Any]]]) -> tuple[int, float, float, int]:
    """Read everything; return rows, seconds to the first batch, seconds in total, and bytes by which the process grew."""
    # Otherwise freed memory stays with the process, and reusing it would not show as growth.
    ctypes.CDLL(None).malloc_trim(0)
    before, most, rows, first = resident_bytes(), 0, 0, 0.0
    started = time.perf_counter()
    for batch in make():
        first = first or time.perf_counter() - started
        rows += reading_ladder.count_rows(batch)
        most = max(most, resident_bytes() - before)
    return rows, first, time.perf_counter() - started, most


def _batches(split: reading_ladder.Split) -> int:
    return sum(1 for _ in tf.data.TFRecordDataset(list(split.paths)).batch(split.batch_size))
