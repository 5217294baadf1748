"""Transfer learning: a base that learnt on other pictures, frozen, under a new head; then all of it with a small rate."""

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

LARGEST_MAP = 7  # maps with a longer side are halved before a head reads every place of them
SMALLEST = 96  # every Keras application takes this side, and MobileNet has weights for it
DOWNLOAD_SECONDS = 10.0
Shape = tuple[int, int, int]


def base(source: str, shape: Shape, load: Callable[[str, Shape], keras.Model] | None = None) -> keras.Model:
    """A network without its head, from pixels in 0..1 ``[batch, *shape]`` to features.

    Args:
        source: A ``.keras`` file or a folder with ``base.keras``; the folder of a SavedModel, which is what model hubs give;
            or the name of a Keras application such as MobileNetV2, whose ImageNet weights are downloaded.
        shape: Height, width and channels of a picture.
        load: What brings an application, by name and shape.

    Raises:
        DataError: if there is no such source, its weights cannot be had, or it was made for other pictures.
    """
    try:
        found = _found(Path(source), shape) or (load or application)(source, shape)
    except (
        Exception
    ) as error:  # a download or a file fails in many ways, which urllib, Keras and h5py raise as their own
        raise DataError(
            f"The pretrained base '{source}' cannot be had ({error}). Give a .keras file, the folder of a SavedModel or, "
            "where the network allows the download, the name of a Keras application such as MobileNetV2."
        ) from error
    if found.input_shape[1:] != tuple(shape):
        raise DataError(
            f"The pretrained base '{source}' reads pictures of {found.input_shape[1:]}, and these are {shape}."
        )
    return found


def _found(path: Path, shape: Shape) -> keras.Model | None:
    file = path / "base.keras" if path.is_dir() else path
    if file.is_file():
        return keras.models.load_model(file, custom_objects=LAYERS)
    if not (path / "saved_model.pb").is_file():
        return None
    pixels = keras.Input(shape, name="pixels")
    answer = keras.layers.TFSMLayer(str(path), call_endpoint="serving_default")(pixels)
    return keras.Model(pixels, next(iter(answer.values())) if isinstance(answer, Mapping) else answer, name="hub")


def application(name: str, shape: Shape, weights: str | None = "imagenet") -> keras.Model:
    """A Keras application without its head; small or grey pictures are enlarged and given three channels first.

    Raises:
        ValueError: if Keras has no application of that name.
    """
    make = getattr(keras.applications, name, None)
    if not callable(make):
        raise ValueError("Keras has no such application")
    side = tuple(max(SMALLEST, one) for one in shape[:2])
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_SECONDS)
    try:
        network = make(include_top=False, weights=weights, input_shape=(*side, 3))
    finally:
        socket.setdefaulttimeout(patience)
    pixels = keras.Input(shape, name="pixels")
    hidden = keras.layers.Concatenate()([pixels] * 3) if shape[2] == 1 else pixels
    hidden = keras.layers.Resizing(*side)(hidden) if side != shape[:2] else hidden
    # Each application has its own idea of what pixels look like.
    hidden = sys.modules[make.__module__].preprocess_input(hidden * 255.0)
    return keras.Model(pixels, network(hidden), name=name.lower())


def without_head(model: keras.Model, layer: str = "residual_1") -> keras.Model:
    """The lower part of a trained network of ours, from its pixels to the maps of ``layer``.

    What lies above knows the old classes too well to be of use for others.
    """
    return keras.Model(model.inputs[0], model.get_layer(layer).output, name="base")


def under_head(
    body: keras.Model, classes: int, dropout: float, prepare: Callable[[Any], Any] | None = None
) -> keras.Model:
    """The base, frozen, under a new head of logits ``[batch, classes]``; ``prepare`` augments the pixels before it.

    The base is called with ``training=False``: its batch normalisation goes on using the moments that it was pretrained
    with, also once its weights are thawed.

    Question: B7
    Answer: Reuse what a network learnt on much data where data is few: load a base without its head, freeze it with
        trainable=False, add a new head and train that; then thaw the base and go on with a rate many times smaller. Call
        the base with training=False, so that batch normalisation keeps its moments. Whether it pays is measured
        here against training from scratch on the same pictures: the base has to know what the new classes need.
    Evidence: tour.evidence.network.transfer_learning.few_pictures
    Proof: tests/models/image/test_transfer.py::test_a_frozen_base_learns_new_classes_from_few_pictures
    """
    body.trainable = False
    pixels = keras.Input(body.input_shape[1:], name="pixels")
    features = body(prepare(pixels) if prepare else pixels, training=False)
    if len(features.shape) == 4:
        large = min(features.shape[1:3]) > LARGEST_MAP
        features = keras.layers.Flatten()(keras.layers.MaxPooling2D(2)(features) if large else features)
    # The new pictures have other moments than those that the base was made on.
    hidden = keras.layers.Dropout(dropout)(keras.layers.BatchNormalization(momentum=MOMENTUM)(features))
    return keras.Model({"pixels": pixels}, keras.layers.Dense(classes, name="logits")(hidden), name="image")


@dataclass(frozen=True)
class Split:
    """Pictures ``[n, height, width, channels]`` and labels ``[n]`` of the classes that are known and those that are new.

    Attributes:
        known: All of the pictures of the known classes that may be learnt from.
        few: The few of each new class.
        held: Pictures of the new classes to measure on.
    """

    known: tuple[np.ndarray, np.ndarray]
    few: tuple[np.ndarray, np.ndarray]
    held: tuple[np.ndarray, np.ndarray]
    names: tuple[int, ...]


def split(train: Sequence[np.ndarray], held: Sequence[np.ndarray], shots: int, seed: int) -> Split:
    """Half of the classes, drawn by ``seed``, are new, and have ``shots`` pictures each to learn from.

    Args:
        train: Pictures and labels ``[n]`` to learn from.
        held: Pictures and labels to measure on.
        shots: Pictures of each new class.
        seed: Decides which classes are new and which pictures are drawn.
    """
    draw, classes = np.random.default_rng(seed), np.unique(train[1])
    order = draw.permutation(classes)
    known, new = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    chosen = np.concatenate([draw.permutation(np.flatnonzero(train[1] == one))[:shots] for one in new])
    first, few, rest = (
        (pictures[rows], np.searchsorted(which, labels[rows]))
        for (pictures, labels), which, rows in (
            (train, known, np.isin(train[1], known)),
            (train, new, chosen),
            (held, new, np.isin(held[1], new)),
        )
    )
    return Split(first, few, rest, tuple(int(one) for one in new))


def compared(
    body: keras.Model,
    scratch: Callable[[int], keras.Model],
    parts: Split,
    steps: int,
    rate: float,
    prepare: Callable[[Any], Any] | None = None,
) -> dict[str, float]:
    """Accuracy on the new classes of three ways to learn them from the same few pictures.

    Args:
        body: The base that knows the other classes; its weights are changed.
        scratch: Makes the same network with fresh weights for a number of classes.
        parts: The pictures.
        steps: Steps of training with the base frozen, and as many more with it thawed; from scratch, both together.
        rate: Learning rate of fresh weights; a thawed base gets a tenth.
        prepare: Augments the pixels before the base, as the network from scratch does in itself.

    Returns:
        ``scratch``; ``frozen``, only the head is learnt; ``thawed``, after that the base too.
    """
    classes = len(parts.names)
    found = {"scratch": accuracy(trained(scratch(classes), parts.few, 2 * steps, rate), parts.held)}
    model = trained(under_head(body, classes, 0.0, prepare), parts.few, steps, rate)
    found["frozen"] = accuracy(model, parts.held)
    body.trainable = True
    found["thawed"] = accuracy(trained(model, parts.few, steps, rate / 10), parts.held)
    return found


def trained(model: keras.Model, data: tuple[np.ndarray, np.ndarray], steps: int, rate: float) -> keras.Model:
    """The model after ``steps`` steps of Adam on pictures and labels ``data``, by Keras' own ``fit``: one device is enough."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)), loss)
    stream = tf.data.Dataset.from_tensor_slices(({"pixels": data[0]}, data[1])).shuffle(len(data[1])).repeat()
    model.fit(stream.batch(min(128, len(data[1]))), epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0)
    return model


def accuracy(model: keras.Model, data: tuple[np.ndarray, np.ndarray]) -> float:
    """Share of right answers on pictures and labels."""
    logits = model.predict({"pixels": data[0]}, batch_size=1024, verbose=0)
    return float(np.mean(np.argmax(logits, axis=1) == data[1]))


def maker(network: Any, settings: Mapping[str, Any], shape: Shape) -> Callable[[int], keras.Model]:
    """What makes the case's network with fresh weights for any number of classes."""
    features = {"pixels": tf.TensorSpec([None, *shape], tf.float32)}

    def make(classes: int) -> keras.Model:
        return network.build({**settings, "classes": ",".join(map(str, range(classes)))}, features)

    return make
