"""The image network: convolutions with batch normalisation and residual blocks, one logit a class.

Question: A8
Answer: Keras is the high-level API: layers, models, optimizers, losses, metrics, fit. Keras 3 is a package of its own that
    runs on TensorFlow, JAX or PyTorch; since TensorFlow 2.16 tf.keras is Keras 3, unless TF_USE_LEGACY_KERAS asks for
    the old one. TensorFlow lies below: tensors, gradients, graphs, devices, tf.data, SavedModel. A model can be written
    as a functional graph of layers, as here, or as a subclass with a call of its own: the same weights give the same
    answers.
Evidence: tour.evidence.network.architecture.keras_on_tensorflow
Proof: tests/tour/evidence/test_architecture.py::test_functional_and_subclassed_answer_equally_with_equal_weights
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.image import layers, transfer

INPUTS = ("pixels",)
LABEL = "label_id"
MONITOR = "accuracy"
SCORE = "probabilities"


def build(settings: Mapping[str, Any], features: Mapping[str, tf.TensorSpec], pretrained: str = "") -> keras.Model:
    """A Keras model from pixels ``[batch, height, width, channels]`` to logits ``[batch, classes]``.

    Args:
        settings: ``filters`` of the first convolution, ``dropout``, ``l2``, ``batch_norm``, ``remat``, the augmentation
            (``augment``, ``shift``, ``flip``, ``erase``), a pretrained base as ``transfer`` and the comma-separated
            ``classes``.
        features: Shapes and types of the transformed features, by name.
        pretrained: Folder with ``base.keras`` that a stage before learnt, which ``transfer`` then is not; empty for none.

    Question: B9
    Answer: Look at the data; decode, resize and scale pictures in the graph that is exported; stack convolution, batch
        normalisation and ReLU with pooling between, then global average pooling, dropout and one logit a class. Train
        with cross-entropy on logits, keep the best epoch by validation accuracy, calibrate, read the confusion matrix
        and look at wrong answers. With few pictures, start from a pretrained base.
    Evidence: tour.evidence.image_run.whole_run
    Proof: tests/tour/evidence/test_claims.py::test_the_image_network_learns_real_digits
    """
    shape, classes = tuple(features["pixels"].shape[1:]), len(settings["classes"].split(","))
    if source := pretrained or settings["transfer"]:
        base = transfer.base(source, shape)
        return transfer.under_head(base, classes, settings["dropout"], lambda pixels: augmented(pixels, settings))
    pixels = keras.Input(shape, name="pixels")
    hidden = body(augmented(pixels, settings), settings)
    hidden = keras.layers.Dropout(settings["dropout"])(keras.layers.GlobalAveragePooling2D()(hidden))
    logits = keras.layers.Dense(classes, kernel_regularizer=_l2(settings), name="logits")
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
    """Pixels to ``4 * filters`` maps of a quarter of height and width.

    Question: A10
    Answer: Say what comes in with Input, call layers on it, and make a Model of inputs and outputs: the functional API,
        which checks shapes while building and takes several inputs and branches. Sequential is for one plain chain. Then
        compile and fit with optimizer, loss and metrics, or train in a loop of your own; evaluate, predict, save. Logits
        come out and softmax is left to loss and export.
    Evidence: tour.evidence.network.architecture.built
    Proof: tests/tour/evidence/test_architecture.py::test_the_built_network_is_the_one_that_the_run_trained
    """
    filters, together = settings["filters"], tf.distribute.get_strategy().num_replicas_in_sync > 1
    switches = {"batch_norm": settings["batch_norm"], "synchronized": together, "l2": settings["l2"]}
    # Halved before it is normalised: what follows the widest maps is bound by memory, and this saves a tenth of a step.
    hidden = _convolution(hidden, filters, settings, together, halved=True)
    for block, width in enumerate((2 * filters, 4 * filters), 1):
        hidden = keras.layers.MaxPooling2D(2)(hidden) if block > 1 else hidden
        hidden = _convolution(hidden, width, settings, together)
        hidden = layers.Residual(**switches, remat=settings["remat"], name=f"residual_{block}")(hidden)
    return hidden


def _convolution(
    hidden: Any, filters: int, settings: Mapping[str, Any], synchronized: bool, halved: bool = False
) -> Any:
    plain = not settings["batch_norm"]
    convolution = keras.layers.Conv2D(filters, 3, padding="same", use_bias=plain, kernel_regularizer=_l2(settings))
    hidden = keras.layers.MaxPooling2D(2)(convolution(hidden)) if halved else convolution(hidden)
    if settings["batch_norm"]:
        hidden = keras.layers.BatchNormalization(momentum=layers.MOMENTUM, synchronized=synchronized)(hidden)
    return keras.layers.ReLU()(hidden)


def _l2(settings: Mapping[str, Any]) -> keras.regularizers.Regularizer | None:
    return keras.regularizers.L2(settings["l2"]) if settings["l2"] else None


def loss(settings: Mapping[str, Any]) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Cross-entropy of class indices ``[batch, 1]`` and logits ``[batch, classes]``, to ``[batch]``.

    Question: B2
    Answer: Keras by default: less code, fewer mistakes, saving and callbacks included. Low-level TensorFlow where Keras
        does not reach. We left it twice: for the training step and the loop around it, since Keras 3's fit fails under
        multi-worker and parameter-server strategies, which is why this loss is a plain function of one value an example;
        and for the export, since one file has to hold the transform graph and three signatures. Layers stay Keras.
    Evidence: tour.evidence.network.architecture.where_keras_was_left
    Proof: tests/tour/evidence/test_architecture.py::test_lines_are_those_that_python_would_run
    """
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
    """What a client gets: ``probabilities`` float32 ``[batch, classes]`` in the order of the class names.

    Question: A13
    Answer: A nonlinear function of each unit; without one, stacked layers are one linear map. ReLU in hidden layers:
        cheap and its gradient does not fade, but a unit that is never positive is dead. GELU and swish are smooth
        cousins; tanh and sigmoid saturate. At the output sigmoid for yes or no, softmax for one of many. Losses take
        logits: log and exponential fused overflow nowhere and the gradient is probability minus truth.
    Evidence: tour.evidence.network.architecture.activations
    Proof: tests/tour/evidence/test_architecture.py::test_dead_units_are_those_that_never_answer
    """
    return {"probabilities": tf.nn.softmax(logits / point["temperature"])}
