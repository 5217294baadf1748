"""The image network: convolutions with batch normalisation and residual blocks, one logit for each class.

Question: A8
Answer: Keras is the high-level API, with layers, models, optimizers, losses, metrics and fit. TensorFlow is below it:
    tensors, gradients, graphs, devices, tf.data, SavedModel. Keras 3 is a separate package that runs on TensorFlow, JAX
    or PyTorch. Since TensorFlow 2.16 tf.keras is Keras 3, unless TF_USE_LEGACY_KERAS selects the old one. A model is a
    functional graph of layers, as here, or a subclass with its own call; equal weights give equal outputs.
Evidence: tour.evidence.network.architecture.keras_on_tensorflow
Proof: tests/tour/evidence/test_architecture.py::test_functional_and_subclassed_answer_equally_with_equal_weights
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.data.class_names import list_classes
from models.image import layers, transfer

INPUTS = ("pixels",)
LABEL = "label_id"
MONITOR = "accuracy"
SCORE = "probabilities"


def build(settings: Mapping[str, Any], features: Mapping[str, tf.TensorSpec], pretrained: str = "") -> keras.Model:
    """Build the Keras model from pixels ``[batch, height, width, channels]`` to logits ``[batch, classes]``.

    Args:
        settings: ``filters`` of the first convolution, ``dropout``, ``l2``, ``batch_norm``, ``remat``, the augmentation
            (``augment``, ``shift``, ``flip``, ``erase``), a pretrained base as ``transfer`` and the list
            ``classes``.
        features: Shapes and types of the transformed features, by name.
        pretrained: Folder with ``base.keras`` from an earlier stage, which replaces ``transfer``; empty for none.

    Question: B9
    Answer: I start by looking at the data. Pictures are decoded, resized and scaled in the graph that is exported. The
        network stacks convolution, batch normalisation and ReLU with pooling in between, then global average pooling,
        dropout and one logit for each class. Train with cross-entropy on logits, keep the best epoch by validation
        accuracy, calibrate, then read the confusion matrix and look at wrong predictions. With few pictures, start from a
        pretrained base.
    Evidence: tour.evidence.image_run.whole_run
    Proof: tests/tour/evidence/test_claims.py::test_the_image_network_learns_real_digits
    """
    shape, classes = tuple(features["pixels"].shape[1:]), len(list_classes(settings))
    if source := pretrained or settings["transfer"]:
        base = transfer.load_base(source, shape)
        return transfer.add_head(base, classes, settings["dropout"], lambda pixels: augment(pixels, settings))
    pixels = keras.Input(shape, name="pixels")
    hidden = body(augment(pixels, settings), settings)
    hidden = keras.layers.Dropout(settings["dropout"])(keras.layers.GlobalAveragePooling2D()(hidden))
    logits = keras.layers.Dense(classes, kernel_regularizer=_l2(settings), name="logits")
    return keras.Model({"pixels": pixels}, logits(hidden), name="image")


def augment(pixels: Any, settings: Mapping[str, Any]) -> Any:
    """Add the augmentation layers: random shift, flip and erasing; outside of training they are identities."""
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
    """Convolve pixels to ``4 * filters`` maps of a quarter of height and width.

    Question: A10
    Answer: With the functional API: declare the Input, call layers on it, and create a Model from inputs and outputs. It
        checks shapes while building and allows several inputs and branches; Sequential is only for a plain chain. Then
        compile with optimizer, loss and metrics and call fit, or write a training loop; evaluate, predict, save. Here the
        network returns logits; the loss and the export apply the softmax.
    Evidence: tour.evidence.network.architecture.network_layers
    Proof: tests/tour/evidence/test_architecture.py::test_the_built_network_is_the_one_that_the_run_trained
    """
    filters, synchronized = settings["filters"], tf.distribute.get_strategy().num_replicas_in_sync > 1
    switches = {"batch_norm": settings["batch_norm"], "synchronized": synchronized, "l2": settings["l2"]}
    # Pooled before normalisation: operations on the largest maps are memory-bound, and this saves a tenth of a step.
    hidden = _convolve(hidden, filters, settings, synchronized, pooled=True)
    for block, width in enumerate((2 * filters, 4 * filters), 1):
        hidden = keras.layers.MaxPooling2D(2)(hidden) if block > 1 else hidden
        hidden = _convolve(hidden, width, settings, synchronized)
        hidden = layers.Residual(**switches, remat=settings["remat"], name=f"residual_{block}")(hidden)
    return hidden


def _convolve(hidden: Any, filters: int, settings: Mapping[str, Any], synchronized: bool, pooled: bool = False) -> Any:
    use_bias = not settings["batch_norm"]
    convolution = keras.layers.Conv2D(filters, 3, padding="same", use_bias=use_bias, kernel_regularizer=_l2(settings))
    hidden = keras.layers.MaxPooling2D(2)(convolution(hidden)) if pooled else convolution(hidden)
    if settings["batch_norm"]:
        hidden = keras.layers.BatchNormalization(momentum=layers.MOMENTUM, synchronized=synchronized)(hidden)
    return keras.layers.ReLU()(hidden)


def _l2(settings: Mapping[str, Any]) -> keras.regularizers.Regularizer | None:
    return keras.regularizers.L2(settings["l2"]) if settings["l2"] else None


def loss(settings: Mapping[str, Any]) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return the cross-entropy of class indices ``[batch, 1]`` and logits ``[batch, classes]``, as ``[batch]``.

    Question: B2
    Answer: Use Keras by default: less code, fewer mistakes, and saving and callbacks are included. Use low-level TensorFlow
        where Keras is not enough. We do so twice. The training step and loop are ours, as Keras 3's fit fails under
        multi-worker and parameter-server strategies; so this loss is a plain function with one value for each example.
        The export is ours, as one SavedModel holds the transform graph and three signatures. The layers stay Keras.
    Evidence: tour.evidence.network.architecture.outside_keras
    Proof: tests/tour/evidence/test_architecture.py::test_lines_are_those_that_python_would_run
    """
    return lambda truth, logits: tf.nn.sparse_softmax_cross_entropy_with_logits(truth[:, 0], logits)


def quality(truth: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Compute ``accuracy`` of class indices ``[rows, 1]`` and logits ``[rows, classes]``."""
    return {"accuracy": float(np.mean(np.argmax(logits, axis=1) == truth[:, 0]))}


def operating_point(settings: Mapping[str, Any], truth: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Find the temperature that calibrates probabilities on the validation split (Guo et al. 2017), by a line search."""
    temperatures = np.geomspace(0.5, 4.0, 61)
    select = np.take_along_axis
    losses = []
    for temperature in temperatures:
        scaled = logits / temperature
        top = scaled.max(axis=1, keepdims=True)
        log_sum_exp = np.log(np.exp(scaled - top).sum(axis=1, keepdims=True)) + top
        losses.append(np.mean(log_sum_exp - select(scaled, truth, axis=1)))
    return {"temperature": float(temperatures[int(np.argmin(losses))])}


def answers(logits: tf.Tensor, point: Mapping[str, float], settings: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Compute the output of the serving signature: ``probabilities`` float32 ``[batch, classes]``, in the order of the classes.

    Question: A13
    Answer: An activation is the nonlinear function of a unit; without it, stacked layers are one linear map. I use ReLU in
        hidden layers: it is cheap and its gradient does not vanish, but a unit that is never positive is dead. GELU and
        swish are smooth variants; tanh and sigmoid saturate. The output uses sigmoid for two classes, softmax for
        several. Give the loss logits, as here: the fused form does not overflow, and its gradient is probability minus
        label.
    Evidence: tour.evidence.network.activation_functions.activations
    Proof: tests/tour/evidence/test_architecture.py::test_dead_units_are_those_that_never_answer
    """
    return {"probabilities": tf.nn.softmax(logits / point["temperature"])}
