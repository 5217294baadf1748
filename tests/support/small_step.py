"""One training step of a small image network on random pixels, for tests of the evidence on a step."""

from types import SimpleNamespace

import numpy as np
import tensorflow as tf

from models.catalog import CASES
from models.image import model as image
from models.network import build
from models.training import optimizers
from models.training.seeds import seed_everything
from tour.evidence.training.one_step import PLAIN, TrainingStep

SETTINGS = {name: value for group in CASES["image"].settings.values() for name, value in group.items()}
SETTINGS |= {**PLAIN, "classes": ["a", "b", "c"], "filters": 4, "dropout": 0.0, "augment": False}
CONTEXT = SimpleNamespace(point={"temperature": 1.3}, settings={"training": SETTINGS})


def small_step(rows: int = 24) -> TrainingStep:
    """Create the step; the same at each call."""
    seed_everything(SETTINGS)
    model = build(image, SETTINGS, {"pixels": tf.TensorSpec([None, 8, 8, 1])})
    optimizer = optimizers.create(SETTINGS, 100)
    optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(1)
    batch = {
        "pixels": tf.constant(rng.random((rows, 8, 8, 1), np.float32)),
        "label_id": tf.constant(rng.integers(0, 3, (rows, 1))),
    }
    return TrainingStep(model, optimizer, image.loss(SETTINGS), batch, "label_id", image, SETTINGS)
