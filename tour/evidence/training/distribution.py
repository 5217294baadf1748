"""Evidence on distribution: the run's strategy, equal weights under other strategies, and a cluster of real processes."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from models import input as reading
from models.saved_model import restore
from models.training import callbacks, entry_point
from models.training.distribute import cluster
from models.training.distribute.job import TrainingJob
from models.training.seeds import seed_everything
from tour.evidence.benchmark_reports import tables
from tour.evidence.context import Context
from tour.evidence.result_types import Number, Result, Table

# Few steps: after many, rounding moves a value across the kink of a ReLU, and the difference exceeds rounding.
ROWS, STEPS = 1024, 4
# Switches off whatever makes two correct strategies differ: random masks, which are drawn per replica, and Adam, which
# makes full steps where the gradient is only rounding, as for some weights before a batch normalisation.
PLAIN = {
    "dropout": 0.0,
    "augment": False,
    "tensorboard": False,
    "profile": False,
    "patience": 0,
    "epochs": 1,
    "max_steps": STEPS,
    "optimizer": "sgd",
    "learning_rate": 0.001,
    "checkpoint_steps": 10_000,
    "folds": 0,
    "restarts": 0,
    "workers": 2,
}


def strategies_agree(context: Context) -> list[Result]:
    """A29: the run's strategy, one device compared with two replicas now, and the benchmark of all strategies."""
    training = context.training
    run = Table(
        "Strategy of this run",
        ("strategy", "replicas", "global batch", "steps"),
        ((training["settings"]["strategy"], training["replicas"], training["batch_size"], training["steps"]),),
    )
    with scratch_folder() as folder:
        single_device, two_replicas = (
            train_few_steps(context, folder / name, strategy=name) for name in ("none", "mirrored")
        )
    difference = max(
        float(np.abs(first - second).max()) for first, second in zip(single_device[1], two_replicas[1], strict=True)
    )
    rows = tuple(
        (name, record["replicas"], record["curves"][0]["loss"])
        for name, (record, _) in (("none", single_device), ("mirrored", two_replicas))
    )
    agree = Table(f"{STEPS} steps on the same global batches, trained now", ("strategy", "replicas", "mean loss"), rows)
    return [run, agree, Number("Largest difference between weights", difference), *tables("strategies", "strategies")]


def processes_of_a_cluster(context: Context) -> list[Result]:
    """B13: two workers in processes of their own, the TF_CONFIG of each, and the result of the training."""
    output = StringIO()
    with scratch_folder() as folder:
        record, _ = train_few_steps(context, folder / "job", output, strategy="multiworker")
        members = json.loads((folder / "job" / "cluster.json").read_text())
    pids = re.findall(r"^(\w+) (\d+) is process (\d+)$", output.getvalue(), re.MULTILINE)
    rows = tuple(
        (f"{kind} {index}", int(pid), json.dumps({"cluster": members, "task": {"type": kind, "index": int(index)}}))
        for kind, index, pid in pids
    )
    together = (record["replicas"], record["steps"], record["curves"][0]["loss"])
    return [
        Table("Processes that trained now", ("task", "process", "TF_CONFIG"), rows),
        Table("Result of the training", ("replicas", "steps", "mean loss"), (together,)),
        Number(
            "To train on several machines",
            "run python -m models.training.worker JOB.json on each; the cluster sets TF_CONFIG",
        ),
        *tables("strategies", "strategies"),
    ]


def train_few_steps(
    context: Context, folder: Path, output: StringIO | None = None, **changes: Any
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Train a few steps from fresh weights on rows of the run's train split; return the record and the weights."""
    rows = context.labelled_rows("train", ROWS)
    count = len(rows[context.network.LABEL])
    settings = {**context.training["settings"], **PLAIN, **changes, "batch_size": 2 * (count // (2 * STEPS))}
    job = TrainingJob(
        case=context.case.name,
        settings=settings,
        examples=str(context.artifact("examples")),
        transform=str(context.artifact("transform_graph")),
        folder=str(folder),
        pretrained=context.pretrained,
        base="",
        spec=reading.store(rows, folder / entry_point.STORED),
        rows=count,
    )
    with redirect_stdout(output or StringIO()):
        if settings["strategy"] == "none":
            seed_everything(settings)
            entry_point.train(job)
        else:
            cluster.run(job)
    return json.loads((folder / entry_point.RESULT).read_text()), list(
        restore.read_weights(folder / callbacks.BEST).values()
    )


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Temporary folder for jobs, without TF_CONFIG, so that the jobs do not join a cluster that this process is part of."""
    config = os.environ.pop("TF_CONFIG", None)
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    finally:
        if config:
            os.environ["TF_CONFIG"] = config
