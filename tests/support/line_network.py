"""A network with one hidden layer, fitted by the training loop."""

import keras
import numpy as np
import tensorflow as tf

from models.default_settings import TRAINING
from models.input import feed_from_memory
from models.training import loop

ROWS, BATCH = 640, 64


class Line:
    """A classifier of points on the two sides of a hyperplane."""

    INPUTS, LABEL, MONITOR = ("x",), "y", "accuracy"

    @staticmethod
    def build(settings, features, pretrained=""):
        x = keras.Input([4], name="x")
        hidden = keras.layers.Dense(8, activation="relu")(x)
        hidden = keras.layers.BatchNormalization()(hidden) if settings.get("normalised") else hidden
        regularizer = keras.regularizers.L2(settings["l2"]) if settings["l2"] else None
        return keras.Model({"x": x}, keras.layers.Dense(1, kernel_regularizer=regularizer)(hidden))

    @staticmethod
    def loss(settings):
        return lambda truth, logits: tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(truth, tf.float32), logits)[:, 0]

    @staticmethod
    def quality(truth, logits):
        return {"accuracy": float(np.mean((logits > 0) == (truth > 0.5)))}


def data(rows=ROWS):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, 4)).astype(np.float32)
    return {"x": x, "y": (x.sum(axis=1, keepdims=True) + rng.normal(size=(rows, 1)) > 0).astype(np.float32)}


def settings(**changes):
    return {**TRAINING, "batch_size": BATCH, "epochs": 4, "tensorboard": False, "learning_rate": 0.01, **changes}


def fit(changes, folder=None):
    keras.utils.set_random_seed(1)
    count, feed = feed_from_memory(data(), BATCH, 1)
    return loop.fit(
        Line, settings(**changes), loop.TrainingSplits({}, count, feed, data(200)), loop.TrainingStart(folder)
    )
