"""Training jobs on small fraud data."""

import json
from pathlib import Path

import numpy as np

from models import cluster, restore, training
from models.callbacks import BEST

STEPS = 24


def weights(job: training.Job) -> dict[str, np.ndarray]:
    """The best weights by path."""
    return restore.arrays(Path(job.folder, BEST))


def trained(job: training.Job) -> dict:
    """Trains the job under its strategy; what the chief left."""
    if job.settings["strategy"] == "none":
        training.seed_everything(job.settings)
        training.train(job)
    else:
        cluster.run(training.prepared(job, training.Data.of(job)))
    return json.loads(Path(job.folder, training.RESULT).read_text())


def furthest(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The largest difference of a weight."""
    assert one.keys() == other.keys() and one
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)
