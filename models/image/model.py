"""The image network: a small convolutional network with batch normalisation, one logit a class."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

INPUTS = ("pixels",)
LABEL = "label_id"
MONITOR = "accuracy"
SCORE = "probabilities"


def build(settings: Mapping[str, Any], features: Mapping[str, tf.TensorSpec], pretrained: str = "") -> keras.Model:
    """A Keras model from pixels ``[batch, height, width, channels]`` to logits ``[batch, classes]``.

    Args:
        settings: ``filters`` of the first block, ``dropout`` and the comma-separated ``classes``.
        features: Shapes and types of the transformed features, by name.
        pretrained: Folder of weights that a stage before learnt; empty for none.

    Question: B9
    Answer: Look at the data; decode, resize and scale pictures in the graph that is exported; stack convolution, batch
        normalisation and ReLU with pooling between, then global average pooling, dropout and one logit a class. Train
        with cross-entropy on logits, keep the best epoch by validation accuracy, calibrate, read the confusion matrix
        and look at wrong answers. With few pictures, start from a pretrained base.
    Evidence: tour.evidence.image.whole_run
    Proof: tests/test_evidence.py::test_the_image_network_learns_real_digits
    """
    pixels = keras.Input(features["pixels"].shape[1:], name="pixels")
    hidden = pixels
    for block, filters in enumerate((settings["filters"], 2 * settings["filters"], 4 * settings["filters"])):
        for _ in range(2 if block < 2 else 1):
            hidden = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(hidden)
            hidden = keras.layers.BatchNormalization(momentum=0.9)(hidden)
            hidden = keras.layers.ReLU()(hidden)
        if block < 2:
            hidden = keras.layers.MaxPooling2D(2)(hidden)
    hidden = keras.layers.GlobalAveragePooling2D()(hidden)
    hidden = keras.layers.Dropout(settings["dropout"])(hidden)
    logits = keras.layers.Dense(len(settings["classes"].split(",")), name="logits")(hidden)
    return keras.Model({"pixels": pixels}, logits, name="image")


def loss(settings: Mapping[str, Any]) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Cross-entropy of class indices ``[batch, 1]`` and logits ``[batch, classes]``, to ``[batch]``."""
    return lambda truth, logits: tf.nn.sparse_softmax_cross_entropy_with_logits(truth[:, 0], logits)


def quality(truth: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """``accuracy`` of class indices ``[rows, 1]`` and logits ``[rows, classes]``."""
    return {"accuracy": float(np.mean(np.argmax(logits, axis=1) == truth[:, 0]))}


def operating_point(settings: Mapping[str, Any], truth: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """The temperature that makes the validation split's probabilities honest (Guo et al. 2017), by a line search."""
    temperatures = np.geomspace(0.5, 4.0, 61)
    picked = np.take_along_axis
    losses = []
    for temperature in temperatures:
        scaled = logits / temperature
        top = scaled.max(axis=1, keepdims=True)
        normal = np.log(np.exp(scaled - top).sum(axis=1, keepdims=True)) + top
        losses.append(np.mean(normal - picked(scaled, truth, axis=1)))
    return {"temperature": float(temperatures[int(np.argmin(losses))])}


def answers(logits: tf.Tensor, point: Mapping[str, float], settings: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """What a client gets: ``probabilities`` float32 ``[batch, classes]`` in the order of the class names."""
    return {"probabilities": tf.nn.softmax(logits / point["temperature"])}
