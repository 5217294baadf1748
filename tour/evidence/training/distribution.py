"""Distribution: the strategy of the run, the same weights under others, and real processes of a cluster."""

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
from models.training.distribute.job import Job
from models.training.seeds import seed_everything
from tour.evidence.benchmark_reports import tables
from tour.evidence.context import Context
from tour.evidence.result_types import Number, Result, Table

# Few steps: sooner or later rounding puts one value on the other side of a ReLU, and that is no rounding any more.
ROWS, STEPS = 1024, 4
# What would make two strategies differ without either being wrong: random masks drawn a replica, and Adam, which makes full
# steps of the rounding that is all there is to the gradient of some weights before a batch normalisation.
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
    """A29: the run's strategy, one device against two replicas now, and the benchmark of all strategies."""
    told = context.training
    run = Table(
        "This run",
        ("strategy", "replicas", "global batch", "steps"),
        ((told["settings"]["strategy"], told["replicas"], told["batch_size"], told["steps"]),),
    )
    with scratch() as folder:
        alone, both = (trained(context, folder / name, strategy=name) for name in ("none", "mirrored"))
    apart = max(float(np.abs(one - other).max()) for one, other in zip(alone[1], both[1], strict=True))
    rows = tuple(
        (name, one["replicas"], one["curves"][0]["loss"]) for name, (one, _) in (("none", alone), ("mirrored", both))
    )
    agree = Table(f"{STEPS} steps on the same global batches, now", ("strategy", "replicas", "mean loss"), rows)
    return [run, agree, Number("Largest difference of a weight", apart), *tables("strategies", "strategies")]


def processes_of_a_cluster(context: Context) -> list[Result]:
    """B13: two workers in processes of their own, what TF_CONFIG told each, and what they made together."""
    said = StringIO()
    with scratch() as folder:
        record, _ = trained(context, folder / "job", said, strategy="multiworker")
        places = json.loads((folder / "job" / "cluster.json").read_text())
    pids = re.findall(r"^(\w+) (\d+) is process (\d+)$", said.getvalue(), re.MULTILINE)
    rows = tuple(
        (f"{kind} {index}", int(pid), json.dumps({"cluster": places, "task": {"type": kind, "index": int(index)}}))
        for kind, index, pid in pids
    )
    together = (record["replicas"], record["steps"], record["curves"][0]["loss"])
    return [
        Table("Processes that trained just now", ("task", "process", "TF_CONFIG"), rows),
        Table("Together", ("replicas", "steps", "mean loss"), (together,)),
        Number(
            "The same on several machines",
            "python -m models.training.worker JOB.json on each, TF_CONFIG set by the cluster",
        ),
        *tables("strategies", "strategies"),
    ]


def trained(
    context: Context, folder: Path, said: StringIO | None = None, **changes: Any
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """A few steps from fresh weights on rows of the run's train split: what was recorded, and the weights."""
    network = context.case.load("model")
    keep = (*network.INPUTS, network.LABEL)
    rows = context.rows("train", keep, ROWS)
    count = len(rows[network.LABEL])
    settings = {**context.training["settings"], **PLAIN, **changes, "batch_size": 2 * (count // (2 * STEPS))}
    job = Job(
        context.case.name,
        settings,
        str(context.artifact("examples")),
        str(context.artifact("transform_graph")),
        str(folder),
        context.pretrained,
        "",
        reading.store(rows, folder / entry_point.STORED),
        count,
    )
    with redirect_stdout(said or StringIO()):
        if settings["strategy"] == "none":
            seed_everything(settings)
            entry_point.train(job)
        else:
            cluster.run(job)
    return json.loads((folder / entry_point.RESULT).read_text()), list(restore.arrays(folder / callbacks.BEST).values())


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for jobs that is gone afterwards; nothing of a cluster around this process is inherited."""
    told = os.environ.pop("TF_CONFIG", None)
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    finally:
        if told:
            os.environ["TF_CONFIG"] = told
