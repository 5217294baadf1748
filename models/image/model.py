"""The image network: a small convolutional network with batch normalisation, one logit a class."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.image import layers

INPUTS = ("pixels",)
LABEL = "label_id"
MONITOR = "accuracy"
SCORE = "probabilities"


def build(settings: Mapping[str, Any], features: Mapping[str, tf.TensorSpec], pretrained: str = "") -> keras.Model:
    """A Keras model from pixels ``[batch, height, width, channels]`` to logits ``[batch, classes]``.

    Args:
        settings: ``filters`` of the first convolution, ``dropout``, ``l2``, ``batch_norm``, ``remat``, the augmentation
            (``augment``, ``shift``, ``flip``, ``erase``) and the comma-separated ``classes``.
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
    hidden = body(augmented(pixels, settings), settings)
    hidden = keras.layers.Dropout(settings["dropout"])(keras.layers.GlobalAveragePooling2D()(hidden))
    logits = keras.layers.Dense(len(settings["classes"].split(",")), kernel_regularizer=_l2(settings), name="logits")
    return keras.Model({"pixels": pixels}, logits(hidden), name="image")


def augmented(pixels: Any, settings: Mapping[str, Any]) -> Any:
    """Pictures moved, mirrored and partly hidden while training; outside it these layers hand on what they get."""
    if not settings["augment"]:
        return pixels
    if settings["shift"]:
        pixels = layers.Shift(settings["shift"], name="shift")(pixels)
    if settings["flip"]:
        pixels = keras.layers.RandomFlip("horizontal", name="flip")(pixels)
    if settings["erase"]:
        erase, area = (settings["erase"],) * 2, (0.05, 0.25)
        pixels = keras.layers.RandomErasing(erase, area, fill_value=0.0, value_range=(0, 1), name="erase")(pixels)
    return pixels


def body(hidden: Any, settings: Mapping[str, Any]) -> Any:
    """Pixels to ``4 * filters`` maps of a quarter of height and width."""
    filters, together = settings["filters"], tf.distribute.get_strategy().num_replicas_in_sync > 1
    switches = {"batch_norm": settings["batch_norm"], "synchronized": together, "l2": settings["l2"]}
    hidden = _convolution(hidden, filters, settings, together)
    for block, width in enumerate((2 * filters, 4 * filters), 1):
        hidden = keras.layers.MaxPooling2D(2)(hidden)
        hidden = _convolution(hidden, width, settings, together)
        hidden = layers.Residual(**switches, remat=settings["remat"], name=f"residual_{block}")(hidden)
    return hidden


def _convolution(hidden: Any, filters: int, settings: Mapping[str, Any], synchronized: bool) -> Any:
    plain = not settings["batch_norm"]
    convolution = keras.layers.Conv2D(filters, 3, padding="same", use_bias=plain, kernel_regularizer=_l2(settings))
    hidden = convolution(hidden)
    if settings["batch_norm"]:
        hidden = keras.layers.BatchNormalization(momentum=layers.MOMENTUM, synchronized=synchronized)(hidden)
    return keras.layers.ReLU()(hidden)


def _l2(settings: Mapping[str, Any]) -> keras.regularizers.Regularizer | None:
    return keras.regularizers.L2(settings["l2"]) if settings["l2"] else None


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
