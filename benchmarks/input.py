"""Measure speed and memory of each input pipeline, and how long a training step waits for it.

    python -m benchmarks.input [--home HOME] [--cases fraud image] [--seconds 1.0] [--rounds 3] [--out FILE]

Uses the last pushed run of each use case under the home; without --home it runs the pipeline in a temporary folder.

- speeds: examples per second of each input pipeline, the median of interleaved rounds; compared with reading the
  bytes of the shards, and their records without parsing;
- memory: increase of the peak over reading one batch, at one and at ten times the shards, each in a separate process;
- waiting: time of a step and of the wait before it; ``constant`` repeats one batch that is always available.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.runs import find_artifacts, median, parse_arguments, print_table, provide_home, write_report

TIMES = (1, 10)
STEPS = 60
BLOCK = 1 << 20


def main() -> None:
    """Measure each use case, print its tables and write the JSON."""
    options = parse_arguments(__doc__, "input.json")
    with provide_home(options.home, options.cases) as home:
        cases = {name: measure(home, name, options.seconds, options.rounds) for name in options.cases}
    write_report(options.out, cases=cases)


def measure(home: Path, case: str, seconds: float, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Return the three tables of one use case."""
    split, graph, run = load_split(home, case)
    tables = {
        "speeds": measure_speed(split, seconds, rounds),
        "memory": measure_memory(split, graph),
        "waiting": measure_waiting(split, run, rounds),
    }
    for name, rows in tables.items():
        print_table(f"{case}: {name}", rows)
    return tables


def load_split(home: Path, case: str) -> tuple[Any, str, dict[str, Any]]:
    """Return the train split of the last pushed run, its transform graph, and the parts of the served model."""
    from models.catalog import find_use_case
    from models.input import Transform, list_shards
    from models.saved_model import restore
    from tour.measure import reading_ladder

    outputs, served = find_artifacts(home, case)
    record = json.loads((outputs["model_run"] / "training.json").read_text())
    network = find_use_case(case).load("model")
    graph = str(outputs["transform_graph"])
    paths = list_shards(str(outputs["examples"]), "train")
    split = reading_ladder.Split(paths, Transform(graph), (*network.INPUTS, network.LABEL), record["batch_size"])
    run = {"served": str(served), "network": network, "settings": restore.read_settings(str(served))}
    return split, graph, run | {"pretrained": restore.find_pretrained(outputs["model_run"])}


def measure_speed(split: Any, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Return a row per input pipeline, limits first: median examples per second, and the share of the limits."""
    from tour.measure import reading_ladder

    datasets = {name: way(split) for name, way in reading_ladder.WAYS.items()}
    batches = sum(1 for _ in reading_ladder.records(split)) + 2
    warm_up_batches = {"cached": batches, "shuffled": batches}
    rates_by_way: dict[str, list[float]] = {name: [] for name in ("bytes", "records", *datasets)}
    size = sum(Path(path).stat().st_size for path in split.paths)
    rows = sum(reading_ladder.count_rows(batch) for batch in reading_ladder.records(split))
    for turn in range(rounds):
        rates_by_way["bytes"].append(bytes_per_second(split.paths, 5) * rows / size)
        rates_by_way["records"].append(reading_ladder.measure_rate(reading_ladder.records(split), seconds, 2))
        for name, data in datasets.items():
            rates_by_way[name].append(
                reading_ladder.measure_rate(data, seconds, 2 if turn else warm_up_batches.get(name, 2))
            )
    medians = {name: median(rates) for name, rates in rates_by_way.items()}
    return [
        {
            "way": name,
            "examples/s": round(rate),
            "lowest": round(min(rates_by_way[name])),
            "highest": round(max(rates_by_way[name])),
            "times naive": rate / medians["naive"],
            "of records": rate / medians["records"],
            "of bytes": rate / medians["bytes"],
        }
        for name, rate in medians.items()
    ]


def bytes_per_second(paths: Sequence[str], passes: int = 1) -> float:
    """Upper limit for any reading: bytes of the shards per second, from the page cache after the first pass."""
    started, count = time.perf_counter(), 0
    for path in list(paths) * passes:
        with Path(path).open("rb", buffering=0) as file:
            while block := file.read(BLOCK):
                count += len(block)
    return count / (time.perf_counter() - started)


def measure_memory(split: Any, graph: str) -> list[dict[str, Any]]:
    """Return a row per input pipeline and size: examples, seconds, peak memory in MiB."""
    from benchmarks import peak_memory

    results = peak_memory.measure_peaks(graph, split.paths, split.keep, split.batch_size, peak_memory.WAYS, TIMES)
    return [
        {
            "way": result.way,
            "data": f"{result.times}×",
            "examples": result.rows,
            "first batch, s": round(result.first, 2),
            "one pass, s": round(result.seconds, 2),
            "peak, MiB": round(result.bytes / 2**20, 1),
        }
        for result in results
    ]


def measure_waiting(split: Any, run: Mapping[str, Any], rounds: int) -> list[dict[str, Any]]:
    """Return a row per input pipeline: milliseconds of waiting and of the step, and speed relative to ``constant``."""
    import tensorflow as tf

    from tour.measure import reading_ladder

    step, batch = build_trainer_step(split, run)
    constant = tf.data.Dataset.from_tensors(batch).repeat()
    streams: dict[str, Callable[[], Any]] = {"constant": lambda: constant}

    def repeat(name: str) -> Any:
        return reading_ladder.WAYS[name](split).repeat()

    streams |= {name: partial(repeat, name) for name in ("naive", "batched", "streamed", "full")}
    constant_batches = iter(constant)
    rows: list[dict[str, Any]] = []
    for name, make in streams.items():
        pairs = [reading_ladder.measure_waiting(make(), lambda: step(constant_batches), STEPS) for _ in range(rounds)]
        rates = [measure_step_inside_graph(step, make(), split.batch_size) for _ in range(rounds)]
        wait, work = (median(values) for values in zip(*pairs, strict=True))
        rows.append(
            {
                "input": name,
                "waits, ms": wait,
                "works, ms": work,
                "share of waiting": wait / (wait + work),
                "trained examples/s": round(median(rates)),
            }
        )
    for row in rows:
        row["of constant"] = row["trained examples/s"] / rows[0]["trained examples/s"]
    return rows


def build_trainer_step(split: Any, run: Mapping[str, Any]) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    """Return the Trainer's compiled step on the served network, and one batch."""
    import tensorflow as tf

    from models.saved_model import restore
    from models.training import optimizers
    from models.training.step import create_train_step
    from tour.measure import reading_ladder

    network, settings = run["network"], run["settings"]
    model = restore.restore_model(run["served"], network, split.transform, run["pretrained"])
    optimizer = optimizers.create(settings, 1_000_000)
    optimizer.build(model.trainable_variables)
    step = create_train_step(
        tf.distribute.get_strategy(),
        model,
        optimizer,
        network.loss(settings),
        network.LABEL,
        split.batch_size,
        settings,
    )
    batch = next(iter(reading_ladder.batched(split)))
    step(iter(tf.data.Dataset.from_tensors(batch).repeat()))
    return step, batch


def measure_step_inside_graph(step: Callable[[Any], Any], data: Any, batch_size: int) -> float:
    """Return examples per second when the step reads its batches inside the graph, as the Trainer's step does."""
    stream = iter(data)
    step(stream)
    started = time.perf_counter()
    for _ in range(STEPS):
        step(stream)
    return STEPS * batch_size / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
