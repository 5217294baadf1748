"""Training jobs of the fraud network at its narrowest, on rows that lie stored as a launcher stores them."""

import json
from pathlib import Path

import numpy as np

from models.catalog import find
from models.fraud.features import CATEGORIES, PAST, VOCABULARY
from models.saved_model import restore
from models.training import entry_point
from models.training.callbacks import BEST
from models.training.distribute import cluster

BATCH, STEPS = 64, 24
ROWS, VALID_ROWS = BATCH * STEPS // 2, 256
# Nothing is drawn at random while training, or strategies would differ. Narrow, and without an encoder of the past: most of a
# job's time goes into tracing its step. An embedding, an ensemble and the anomaly's autoencoder are left.
SETTINGS = {
    "width": 8,
    "members": 2,
    "frequencies": 1,
    "past_encoder": "none",
    "dropout": 0.0,
    "batch_size": BATCH,
    "learning_rate": 0.01,
    "epochs": 2,
    "max_steps": STEPS,
    "patience": 0,
    "checkpoint_steps": 5,
    "profile": False,
    "tensorboard": False,
}


def small_job(folder: Path, **changes) -> entry_point.Job:
    """A job whose rows are stored in its folder, with changes of its settings."""
    settings = {**find("fraud").settings["training"], **SETTINGS, **changes}
    spec = entry_point.store(fraud_rows(ROWS, 1), folder / entry_point.STORED)
    entry_point.store(fraud_rows(VALID_ROWS, 2), folder / entry_point.STORED_VALID)
    return entry_point.Job("fraud", settings, "", "", str(folder), spec=spec, rows=ROWS, valid_rows=VALID_ROWS)


def fraud_rows(count: int, seed: int) -> dict[str, np.ndarray]:
    """Transformed features of purchases that are made up; a fraud is a large amount of a certain category."""
    made = np.random.default_rng(seed)
    numeric = made.normal(size=(count, 4)).astype(np.float32)
    codes = made.integers(0, VOCABULARY, (count, len(CATEGORIES) + 1))
    return {
        "numeric": numeric,
        "codes": codes + VOCABULARY * np.arange(codes.shape[1]),
        "past": made.normal(size=(count, PAST, 6)).astype(np.float32),
        "merchants": made.integers(0, 50, (count, 1 + PAST)),
        "is_fraud": (numeric[:, :1] + codes[:, :1] / VOCABULARY > 1).astype(np.float32),
    }


def weights(job: entry_point.Job) -> dict[str, np.ndarray]:
    """The best weights by path."""
    return restore.arrays(Path(job.folder, BEST))


def record(job: entry_point.Job) -> dict:
    """What the chief has left of the training."""
    return json.loads(Path(job.folder, entry_point.RESULT).read_text())


def trained(job: entry_point.Job) -> dict:
    """Trains the job under its strategy; what the chief left."""
    if job.settings["strategy"] == "none":
        entry_point.train(job)
    else:
        cluster.run(job)
    return record(job)


def furthest(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The largest difference of a weight."""
    assert one.keys() == other.keys() and one
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)
