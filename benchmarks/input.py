"""How fast each way of reading is, how much memory it takes, and whether a training step waits for it.

    python benchmarks/input.py [--home HOME] [--cases fraud image] [--seconds 1.0] [--rounds 3] [--out FILE]

Looks at the last pushed run of each case under the home; without one it runs the pipeline into a temporary folder.

- speeds: examples a second of each way, the rounds of all ways in turns, and the median; beside reading the shards' bytes
  and their records without parsing;
- memory: peak over reading one batch, at one and at ten times the shards, each in a process of its own;
- waiting: time of a step and of the wait before it; ``constant`` is the step on one batch that is always there.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[1]
# This folder has files with names of packages, and comes first in the path of a script.
sys.path[0] = str(ROOT)
PACKAGES = ("tensorflow", "keras", "numpy", "ai-edge-litert", "tfx")
TIMES = (1, 10)
STEPS = 60


def main() -> None:
    """Measures each case, prints its tables and writes the JSON."""
    told = arguments(__doc__, "input.json")
    with home_of(told.home, told.cases) as home:
        cases = {name: measure(home, name, told.seconds, told.rounds) for name in told.cases}
    write(told.out, cases)


def measure(home: Path, case: str, seconds: float, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """The three tables of one case."""
    split, graph, run = split_of(home, case)
    found = {
        "speeds": speeds(split, seconds, rounds),
        "memory": memory(split, graph),
        "waiting": waiting(split, run, rounds),
    }
    for name, rows in found.items():
        show(f"{case}: {name}", rows)
    return found


def split_of(home: Path, case: str) -> tuple[Any, str, dict[str, Any]]:
    """The train split of the last pushed run, its transform graph, and what the Trainer wrote with the served model."""
    from models import ladder, restore
    from models.catalog import find
    from models.input import Transform, files

    outputs, served = artifacts(home, case)
    told = json.loads((outputs["model_run"] / "training.json").read_text())
    network = find(case).load("model")
    graph = str(outputs["transform_graph"])
    paths = files(str(outputs["examples"]), "train")
    split = ladder.Split(paths, Transform(graph), (*network.INPUTS, network.LABEL), told["batch_size"])
    return split, graph, {"served": str(served), "network": network, "settings": restore.settings(str(served))}


def speeds(split: Any, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """A row a way, its limit first: examples a second, median of the rounds, and its share of the limits."""
    from models import ladder

    made = {name: way(split) for name, way in ladder.WAYS.items()}
    batches = sum(1 for _ in ladder.records(split)) + 2
    kept = {"cached": batches, "shuffled": batches}
    found: dict[str, list[float]] = {name: [] for name in ("bytes", "records", *made)}
    size = sum(Path(path).stat().st_size for path in split.paths)
    rows = sum(ladder.count(batch) for batch in ladder.records(split))
    for turn in range(rounds):
        found["bytes"].append(ladder.bytes_per_second(split.paths, 5) * rows / size)
        found["records"].append(ladder.rate(ladder.records(split), seconds, 2))
        for name, data in made.items():
            found[name].append(ladder.rate(data, seconds, 2 if turn else kept.get(name, 2)))
    middle = {name: median(rates) for name, rates in found.items()}
    return [
        {"way": name, "examples/s": round(rate), "lowest": round(min(found[name])), "highest": round(max(found[name])),
         "times naive": rate / middle["naive"], "of records": rate / middle["records"], "of bytes": rate / middle["bytes"]}
        for name, rate in middle.items()
    ]  # fmt: skip


def memory(split: Any, graph: str) -> list[dict[str, Any]]:
    """A row a way and size: examples, seconds, peak in MiB."""
    from models import peak

    found = peak.measured(graph, split.paths, split.keep, split.batch_size, peak.WAYS, TIMES)
    return [
        {"way": one.way, "data": f"{one.times}×", "examples": one.rows, "first batch, s": round(one.first, 2),
         "one pass, s": round(one.seconds, 2), "peak, MiB": round(one.bytes / 2**20, 1)}
        for one in found
    ]  # fmt: skip


def waiting(split: Any, run: Mapping[str, Any], rounds: int) -> list[dict[str, Any]]:
    """A row a way: milliseconds of waiting and of the step, and the step's own stream against a constant batch."""
    import tensorflow as tf

    from models import ladder

    step, batch = trainer_step(split, run)
    constant = tf.data.Dataset.from_tensors(batch).repeat()
    streams: dict[str, Callable[[], Any]] = {"constant": lambda: constant}
    streams |= {name: (lambda way=ladder.WAYS[name]: way(split).repeat()) for name in ("naive", "batched", "streamed", "full")}
    still, rows = iter(constant), []
    for name, make in streams.items():
        pairs = [ladder.waiting(make(), lambda: step(still), STEPS) for _ in range(rounds)]
        rates = [inside(step, make(), split.batch_size) for _ in range(rounds)]
        wait, work = (median(values) for values in zip(*pairs, strict=True))
        rows.append({"input": name, "waits, ms": wait, "works, ms": work, "share of waiting": wait / (wait + work),
                     "trained examples/s": round(median(rates))})  # fmt: skip
    for row in rows:
        row["of constant"] = row["trained examples/s"] / rows[0]["trained examples/s"]
    return rows


def trainer_step(split: Any, run: Mapping[str, Any]) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    """The Trainer's compiled step on the served network, and one batch."""
    import tensorflow as tf

    from models import ladder, loop, optimizers, restore

    network, settings = run["network"], run["settings"]
    model = restore.model(run["served"], network, split.transform)
    optimizer = optimizers.create(settings, 1_000_000)
    optimizer.build(model.trainable_variables)
    step = loop.step_function(
        tf.distribute.get_strategy(), model, optimizer, network.loss(settings), network.LABEL, split.batch_size, settings
    )
    batch = next(iter(ladder.batched(split)))
    step(iter(tf.data.Dataset.from_tensors(batch).repeat()))
    return step, batch


def inside(step: Callable[[Any], Any], data: Any, batch_size: int) -> float:
    """Examples a second of training when the step takes its batch itself, inside the graph, as the Trainer's does."""
    import time

    stream = iter(data)
    step(stream)
    started = time.perf_counter()
    for _ in range(STEPS):
        step(stream)
    return STEPS * batch_size / (time.perf_counter() - started)


def artifacts(home: Path, case: str) -> tuple[dict[str, Path], Path]:
    """Folders of the last pushed run by output, and of the model that it pushed.

    Raises:
        SystemExit: if there is none.
    """
    from pipeline import runtime, store

    metadata = runtime.local(home).metadata
    pushed = [run for run in store.runs(metadata, case) if run.state == "pushed"]
    if not pushed:
        sys.exit(f"error: there is no pushed run of {case} under {home}; `showcase run {case} --home {home}` makes one.")
    found = {key: Path(one.uri) for outputs in store.outputs(metadata, pushed[-1].id).values() for key, one in outputs.items()}
    return found, Path(pushed[-1].facts["pushed"])


@contextmanager
def home_of(home: Path | None, cases: Sequence[str]) -> Iterator[Path]:
    """The home, or a temporary one in which each case has been run."""
    if home:
        yield home.resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            subprocess.run([sys.executable, "-m", "pipeline.cli", "run", case, "--home", folder], cwd=ROOT, check=True)
        yield Path(folder)


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, header_style="dim", pad_edge=False)
    for name, value in rows[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*(f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
                        for value in row.values()))  # fmt: skip
    # Written to a file, a table would be cut at 80 columns.
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def write(path: Path, cases: Mapping[str, Any]) -> None:
    """The report with what it was measured on; no path of this machine is in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), "cases": cases}, indent=1) + "\n")
    print(f"written to {path.name}")


def machine() -> dict[str, Any]:
    """Date, cores, load and versions."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "cpu": models[0].split(":", 1)[1].strip() if models else platform.machine(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def median(values: Sequence[float]) -> float:
    """The middle of the values."""
    import statistics

    return float(statistics.median(values))


def arguments(doc: str, name: str) -> argparse.Namespace:
    """What the command line says, the same for every benchmark that looks at a run."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--home", type=Path, help="Folder of runs; without it the pipeline is run into a temporary one.")
    parser.add_argument("--cases", nargs="+", default=["fraud", "image"], help="Use cases to look at.")
    parser.add_argument("--seconds", type=float, default=1.0, help="Time of one measurement.")
    parser.add_argument("--rounds", type=int, default=3, help="Measurements of each, in turns.")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results" / name, help="JSON to write.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
