"""Transfer learning: train a new head on a frozen pretrained base, then fine-tune the whole network with a small rate."""

import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.errors import DataError
from models.image.layers import LAYERS, MOMENTUM

LARGEST_MAP = 7  # maps with a longer side are pooled before the head flattens them
SMALLEST = 96  # every Keras application accepts this side, and MobileNet has weights for it
DOWNLOAD_SECONDS = 10.0
Shape = tuple[int, int, int]


def load_base(source: str, shape: Shape, load: Callable[[str, Shape], keras.Model] | None = None) -> keras.Model:
    """Load a network without its head, from pixels in 0..1 ``[batch, *shape]`` to features.

    Args:
        source: A ``.keras`` file or a folder with ``base.keras``; the folder of a SavedModel, as from a model hub; or
            the name of a Keras application such as MobileNetV2, whose ImageNet weights are downloaded.
        shape: Height, width and channels of a picture.
        load: Loads an application by name and shape.

    Raises:
        DataError: if the source does not exist, its weights cannot be loaded, or it expects another shape.
    """
    try:
        network = _load_from_disk(Path(source), shape) or (load or load_application)(source, shape)
    except Exception as error:  # urllib, Keras and h5py raise different exceptions for a failed download or file
        raise DataError(
            f"The pretrained base '{source}' cannot be loaded ({error}). Give a .keras file, the folder of a SavedModel or, "
            "where the network allows the download, the name of a Keras application such as MobileNetV2."
        ) from error
    if network.input_shape[1:] != tuple(shape):
        raise DataError(
            f"The pretrained base '{source}' expects pictures of {network.input_shape[1:]}, but these are {shape}."
        )
    return network


def _load_from_disk(path: Path, shape: Shape) -> keras.Model | None:
    file = path / "base.keras" if path.is_dir() else path
    if file.is_file():
        return keras.models.load_model(file, custom_objects=LAYERS)
    if not (path / "saved_model.pb").is_file():
        return None
    pixels = keras.Input(shape, name="pixels")
    outputs = keras.layers.TFSMLayer(str(path), call_endpoint="serving_default")(pixels)
    return keras.Model(pixels, next(iter(outputs.values())) if isinstance(outputs, Mapping) else outputs, name="hub")


def load_application(name: str, shape: Shape, weights: str | None = "imagenet") -> keras.Model:
    """Load a Keras application without its head; small or grey pictures are first enlarged and given three channels.

    Raises:
        ValueError: if Keras has no application of that name.
    """
    constructor = getattr(keras.applications, name, None)
    if not callable(constructor):
        raise ValueError("Keras has no such application")
    side = tuple(max(SMALLEST, length) for length in shape[:2])
    old_timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_SECONDS)
    try:
        network = constructor(include_top=False, weights=weights, input_shape=(*side, 3))
    finally:
        socket.setdefaulttimeout(old_timeout)
    pixels = keras.Input(shape, name="pixels")
    hidden = keras.layers.Concatenate()([pixels] * 3) if shape[2] == 1 else pixels
    hidden = keras.layers.Resizing(*side)(hidden) if side != shape[:2] else hidden
    # Each application has its own range of pixel values.
    hidden = sys.modules[constructor.__module__].preprocess_input(hidden * 255.0)
    return keras.Model(pixels, network(hidden), name=name.lower())


def remove_head(model: keras.Model, layer: str = "residual_1") -> keras.Model:
    """Return the lower part of a trained network of this case, from its pixels to the maps of ``layer``.

    The layers above are too specific to the old classes to be useful for others.
    """
    return keras.Model(model.inputs[0], model.get_layer(layer).output, name="base")


def add_head(
    body: keras.Model, classes: int, dropout: float, prepare: Callable[[Any], Any] | None = None
) -> keras.Model:
    """Put a new head with logits ``[batch, classes]`` on the frozen base; ``prepare`` augments the pixels before it.

    The base is called with ``training=False``, so that its batch normalisation uses the moments of the pretraining, also after
    its weights are unfrozen.

    Question: B7
    Answer: Transfer learning reuses a network trained on much data for a task with little data. Load the base without its
        head, freeze it with trainable=False and train a new head; then unfreeze the base and fine-tune with a much smaller
        rate. Call the base with training=False, or batch normalisation loses its moments. It helps only if the base's
        features suit the new classes, so we measure it against training from scratch on the same pictures.
    Evidence: tour.evidence.network.transfer_learning.few_pictures
    Proof: tests/models/image/test_transfer.py::test_transfer_beats_training_from_scratch_on_few_pictures
    """
    body.trainable = False
    pixels = keras.Input(body.input_shape[1:], name="pixels")
    features = body(prepare(pixels) if prepare else pixels, training=False)
    if len(features.shape) == 4:
        large = min(features.shape[1:3]) > LARGEST_MAP
        features = keras.layers.Flatten()(keras.layers.MaxPooling2D(2)(features) if large else features)
    # The features of the new pictures have other moments than those of the pretraining.
    hidden = keras.layers.Dropout(dropout)(keras.layers.BatchNormalization(momentum=MOMENTUM)(features))
    return keras.Model({"pixels": pixels}, keras.layers.Dense(classes, name="logits")(hidden), name="image")


@dataclass(frozen=True)
class FewShotSplit:
    """Pictures ``[n, height, width, channels]`` and labels ``[n]`` of base classes and new classes.

    Attributes:
        base: Training pictures of the base classes.
        few: The few training pictures of each new class.
        held: Evaluation pictures of the new classes.
        names: Original labels of the new classes.
    """

    base: tuple[np.ndarray, np.ndarray]
    few: tuple[np.ndarray, np.ndarray]
    held: tuple[np.ndarray, np.ndarray]
    names: tuple[int, ...]


def split_classes(train: Sequence[np.ndarray], held: Sequence[np.ndarray], shots: int, seed: int) -> FewShotSplit:
    """Draw half of the classes as new ones, with ``shots`` training pictures each.

    Args:
        train: Training pictures and labels ``[n]``.
        held: Evaluation pictures and labels.
        shots: Training pictures of each new class.
        seed: Seed of the drawn classes and pictures.
    """
    rng, classes = np.random.default_rng(seed), np.unique(train[1])
    order = rng.permutation(classes)
    base_classes, new_classes = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    chosen = np.concatenate([rng.permutation(np.flatnonzero(train[1] == label))[:shots] for label in new_classes])
    base_pictures, few_pictures, held_pictures = (
        (pictures[rows], np.searchsorted(selected, labels[rows]))
        for (pictures, labels), selected, rows in (
            (train, base_classes, np.isin(train[1], base_classes)),
            (train, new_classes, chosen),
            (held, new_classes, np.isin(held[1], new_classes)),
        )
    )
    return FewShotSplit(base_pictures, few_pictures, held_pictures, tuple(int(label) for label in new_classes))


def compare_methods(
    body: keras.Model,
    scratch: Callable[[int], keras.Model],
    parts: FewShotSplit,
    steps: int,
    rate: float,
    prepare: Callable[[Any], Any] | None = None,
) -> dict[str, float]:
    """Measure accuracy on the new classes for three ways of training on the same few pictures.

    Args:
        body: The base, pretrained on the base classes; its weights are changed.
        scratch: Builds the same network with new weights for a number of classes.
        parts: The pictures.
        steps: Training steps with the frozen base, and again with the unfrozen one; from scratch, the sum of both.
        rate: Learning rate of new weights; that of an unfrozen base is a tenth of it.
        prepare: Augments the pixels before the base, as the network from scratch contains the augmentation.

    Returns:
        Accuracy of ``scratch``, of ``frozen`` (only the head is trained) and of ``thawed`` (then the base, too).
    """
    classes = len(parts.names)
    accuracies = {"scratch": measure_accuracy(fit(scratch(classes), parts.few, 2 * steps, rate), parts.held)}
    model = fit(add_head(body, classes, 0.0, prepare), parts.few, steps, rate)
    accuracies["frozen"] = measure_accuracy(model, parts.held)
    body.trainable = True
    accuracies["thawed"] = measure_accuracy(fit(model, parts.few, steps, rate / 10), parts.held)
    return accuracies


def fit(model: keras.Model, data: tuple[np.ndarray, np.ndarray], steps: int, rate: float) -> keras.Model:
    """Train the model for ``steps`` steps of Adam on pictures and labels ``data``, with Keras' ``fit`` on one device."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)), loss)
    stream = tf.data.Dataset.from_tensor_slices(({"pixels": data[0]}, data[1])).shuffle(len(data[1])).repeat()
    model.fit(stream.batch(min(128, len(data[1]))), epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0)
    return model


def measure_accuracy(model: keras.Model, data: tuple[np.ndarray, np.ndarray]) -> float:
    """Compute the accuracy on pictures and labels."""
    logits = model.predict({"pixels": data[0]}, batch_size=1024, verbose=0)
    return float(np.mean(np.argmax(logits, axis=1) == data[1]))


def network_builder(network: Any, settings: Mapping[str, Any], shape: Shape) -> Callable[[int], keras.Model]:
    """Return a function that builds the case's network with new weights for a number of classes."""
    features = {"pixels": tf.TensorSpec([None, *shape], tf.float32)}

    def build(classes: int) -> keras.Model:
        return network.build({**settings, "classes": [str(number) for number in range(classes)]}, features)

    return build
