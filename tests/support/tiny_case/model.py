"""Two hidden layers and one logit for each side."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

INPUTS = ("scaled",)
LABEL = "above"
MONITOR = "accuracy"
SCORE = "probabilities"


def build(settings: Mapping[str, Any], features: Mapping[str, tf.TensorSpec], pretrained: str = "") -> keras.Model:
    """Build the model from ``scaled`` to logits ``[batch, 2]``."""
    scaled = keras.Input(features["scaled"].shape[1:], name="scaled")
    hidden = scaled
    for _ in range(2):
        hidden = keras.layers.Dense(settings["width"], activation="relu")(hidden)
    return keras.Model({"scaled": scaled}, keras.layers.Dense(2)(hidden), name="tiny")


def loss(settings: Mapping[str, Any]) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return the cross-entropy, ``[batch]``."""
    return lambda truth, logits: tf.nn.sparse_softmax_cross_entropy_with_logits(truth[:, 0], logits)


def quality(truth: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Compute ``accuracy``."""
    return {"accuracy": float(np.mean(np.argmax(logits, axis=1) == truth[:, 0]))}


def operating_point(settings: Mapping[str, Any], truth: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Return an empty operating point."""
    return {}


def answers(logits: tf.Tensor, point: Mapping[str, float], settings: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Compute ``probabilities`` float32 ``[batch, 2]``."""
    return {"probabilities": tf.nn.softmax(logits)}
