"""Measure the throughput of the training step for every distribution strategy and every switch.

    python -m benchmarks.strategies [--home H] [--cases fraud image] [--out benchmarks/results/strategies.json]

Training starts from new weights on the data of a pushed run. Every strategy trains the same steps on the same global
batches. The baseline is ``none`` in the same table; the largest difference of a weight from it shows that the
computation is the same. If one replica uses all cores of a machine, more replicas cannot be faster, and the ratio is
the cost of distribution. Switches are measured one at a time, each in a separate process, so that its peak memory can
be read.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT, find_artifacts, median, parse_arguments, print_table, provide_home, write_report

ROWS, EPOCHS = 16_384, 4
STRATEGIES = (("none", 1), ("mirrored", 2), ("multiworker", 2), ("parameter-server", 1), ("parameter-server", 2))
SWITCHES: dict[str, dict[str, Any]] = {
    "none": {},
    "mixed_precision": {"mixed_precision": True},
    "xla": {"xla": True},
    "accumulate 4": {"accumulate": 4},
    "remat": {"remat": True},
    "clip_norm 1": {"clip_norm": 1.0},
    "deterministic": {"deterministic": True},
}
# Large batches for the switches, since the memory that they save is that of activations.
LARGE = {"fraud": 8192, "image": 1024}


def main() -> None:
    """Measure each use case, print its tables and write the JSON."""
    options = parse_arguments(__doc__, "strategies.json")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    cases = {}
    with provide_home(options.home, options.cases) as home, tempfile.TemporaryDirectory() as scratch:
        for case in options.cases:
            job = prepare_job(home, case, Path(scratch, case))
            cases[case] = {"strategies": measure_strategies(job), "switches": measure_switches(job)}
            for title, rows in cases[case].items():
                print_table(f"{case}: {title}", rows)
    write_report(options.out, cases=cases)


def prepare_job(home: Path, case: str, folder: Path) -> Any:
    """Return a job on some rows of the train split, stored once for all strategies, without random masks."""
    from models import input as reading
    from models.catalog import find_use_case
    from models.input import Transform, dataset, list_shards
    from models.rows import sample
    from models.saved_model import restore
    from models.training import entry_point
    from models.training.distribute.job import TrainingJob

    outputs, served = find_artifacts(home, case)
    network, transform = find_use_case(case).load("model"), Transform(str(outputs["transform_graph"]))
    keep = (*network.INPUTS, network.LABEL)
    rows = sample(dataset(list_shards(str(outputs["examples"]), "train"), transform, keep).as_numpy_iterator(), ROWS, 1)
    count = len(rows[network.LABEL])
    deterministic = {
        "dropout": 0.0,
        "augment": False,
        "tensorboard": False,
        "patience": 0,
        "strategy": "none",
        "optimizer": "sgd",
        "learning_rate": 0.01,
    }
    settings = {
        **restore.read_settings(str(served)),
        **deterministic,
        "epochs": EPOCHS,
        "max_steps": 10**6,
        "checkpoint_steps": 10**6,
    }
    return TrainingJob(
        case=case,
        settings=settings,
        examples=str(outputs["examples"]),
        transform=str(outputs["transform_graph"]),
        folder=str(folder),
        pretrained=restore.find_pretrained(outputs["model_run"]),
        base="",
        spec=reading.store(rows, folder / entry_point.STORED),
        rows=count,
    )


def measure_strategies(job: Any) -> list[dict[str, Any]]:
    """Return a row per strategy and number of workers."""
    from models.saved_model import restore

    rows, reference = [], None
    for name, workers in STRATEGIES:
        record, _ = train_job(job, f"{name}-{workers}", strategy=name, workers=workers)
        speed = median([curve["examples_per_second"] for curve in record["curves"][1:]])
        weights = list(restore.read_weights(Path(job.folder, f"{name}-{workers}", "best.weights.h5")).values())
        reference = reference or (speed, weights)
        difference = max(
            float(abs(array - reference_array).max())
            for array, reference_array in zip(weights, reference[1], strict=True)
        )
        rows.append(
            {
                "strategy": name,
                "workers": workers,
                "replicas": record["replicas"],
                "examples/s": round(speed),
                "to none": speed / reference[0],
                "weights apart": difference,
                "loss": record["curves"][-1]["loss"],
            }
        )
    return rows


def measure_switches(job: Any) -> list[dict[str, Any]]:
    """Return a row per switch: speed, peak memory of its process, and the loss after the same number of epochs."""
    large = replace(job, settings={**job.settings, "batch_size": min(LARGE.get(job.case, 1024), job.rows)})
    rows: list[dict[str, Any]] = []
    for name, changes in SWITCHES.items():
        record, peak = train_job(large, f"switch-{name.replace(' ', '-')}", **changes)
        speed = median([curve["examples_per_second"] for curve in record["curves"][1:]])
        first = rows[0] if rows else {"examples/s": speed, "peak MB": peak}
        rows.append(
            {
                "switch": name,
                "batch": large.settings["batch_size"],
                "examples/s": round(speed),
                "to none": speed / first["examples/s"],
                "peak MB": round(peak),
                "peak to none": peak / first["peak MB"],
                "loss": record["curves"][-1]["loss"],
            }
        )
    return rows


def train_job(job: Any, name: str, **changes: Any) -> tuple[Mapping[str, Any], float]:
    """Train a job with its strategy; return the record, and the peak memory in MB if it is a single process."""
    from models.training import entry_point
    from models.training.distribute import cluster

    folder = Path(job.folder, name)
    folder.mkdir(exist_ok=True)
    (folder / entry_point.STORED).symlink_to(Path(job.folder, entry_point.STORED))
    changed_job, peak = replace(job, folder=str(folder), settings={**job.settings, **changes}), float("nan")
    print(f"{job.case}: {name}", flush=True)
    if changed_job.settings["strategy"] == "none":
        path = changed_job.save(folder / "job.json")
        child = subprocess.Popen(
            [sys.executable, "-m", "models.training.worker", str(path)], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            sys.exit(f"error: the training of {name} of {job.case} failed.")
        peak = usage.ru_maxrss / 1024
    else:
        cluster.run(changed_job)
    return json.loads((folder / entry_point.RESULT).read_text()), peak


if __name__ == "__main__":
    main()
