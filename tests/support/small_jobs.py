"""Training jobs of the smallest fraud network, on rows in the format that a launcher stores."""

import json
from pathlib import Path

import numpy as np

from models.catalog import find_use_case
from models.fraud.features import CATEGORIES, PAST, VOCABULARY
from models.saved_model import restore
from models.training import entry_point
from models.training.callbacks import BEST
from models.training.distribute import cluster

BATCH, STEPS = 64, 24
ROWS, VALID_ROWS = BATCH * STEPS // 2, 256
# Training draws no random numbers, as strategies would differ. The network is narrow and has no encoder of the past, as most of
# the time of a job is the tracing of its step. It keeps an embedding, an ensemble and the autoencoder of the anomaly.
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


def small_job(folder: Path, **changes) -> entry_point.TrainingJob:
    """Create a job with changed settings whose rows are stored in its folder."""
    settings = {**find_use_case("fraud").settings["training"], **SETTINGS, **changes}
    spec = entry_point.store(fraud_rows(ROWS, 1), folder / entry_point.STORED)
    entry_point.store(fraud_rows(VALID_ROWS, 2), folder / entry_point.STORED_VALID)
    return entry_point.TrainingJob("fraud", settings, "", "", str(folder), spec=spec, rows=ROWS, valid_rows=VALID_ROWS)


def fraud_rows(count: int, seed: int) -> dict[str, np.ndarray]:
    """Draw transformed features of purchases; a fraud is a large amount in a certain category."""
    rng = np.random.default_rng(seed)
    numeric = rng.normal(size=(count, 4)).astype(np.float32)
    codes = rng.integers(0, VOCABULARY, (count, len(CATEGORIES) + 1))
    return {
        "numeric": numeric,
        "codes": codes + VOCABULARY * np.arange(codes.shape[1]),
        "past": rng.normal(size=(count, PAST, 6)).astype(np.float32),
        "merchants": rng.integers(0, 50, (count, 1 + PAST)),
        "is_fraud": (numeric[:, :1] + codes[:, :1] / VOCABULARY > 1).astype(np.float32),
    }


def load_weights(job: entry_point.TrainingJob) -> dict[str, np.ndarray]:
    """Load the best weights by path."""
    return restore.read_weights(Path(job.folder, BEST))


def read_record(job: entry_point.TrainingJob) -> dict:
    """Read the training record of the chief."""
    return json.loads(Path(job.folder, entry_point.RESULT).read_text())


def train_job(job: entry_point.TrainingJob) -> dict:
    """Train the job under its strategy; return the record of the chief."""
    if job.settings["strategy"] == "none":
        entry_point.train(job)
    else:
        cluster.run(job)
    return read_record(job)


def max_difference(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    """Return the largest absolute difference of a weight."""
    assert first.keys() == second.keys() and first
    return max(float(np.abs(first[name] - second[name]).max()) for name in first)
