"""The random seed of a training, for every library that draws random numbers."""

import random
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def seed_everything(settings: Mapping[str, Any]) -> None:
    """Seed Python, NumPy, Keras and TensorFlow with ``settings["seed"]``.

    With ``settings["deterministic"]`` TensorFlow's operations are deterministic too, which makes them slower and cannot
    be turned off again in the process.
    """
    random.seed(settings["seed"])
    np.random.seed(settings["seed"])
    keras.utils.set_random_seed(settings["seed"])
    if settings["deterministic"]:
        tf.config.experimental.enable_op_determinism()
