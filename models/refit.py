"""Training on rows in memory: what tuning, cross-validation and ablation do many times over."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from models.rows import Rows
from models.training import Fit, fit, seed_everything


def fit_rows(
    network: Any, settings: Mapping[str, Any], features: Mapping[str, tf.TensorSpec], train: Rows, valid: Rows
) -> Fit:
    """The Trainer's loop on arrays, ``[rows, ...]`` a feature, seeded anew, so that calls can be compared."""
    seed_everything(settings["seed"])
    count, tensors = len(train[network.LABEL]), {name: tf.constant(values) for name, values in train.items()}
    order = tf.data.Dataset.range(count).shuffle(count, seed=settings["seed"])
    order = order.batch(min(settings["batch_size"], count), drop_remainder=True)
    stream = order.map(lambda index: {name: tf.gather(values, index) for name, values in tensors.items()})
    return fit(network, settings, features, stream.repeat().prefetch(2), count, valid)
