"""Transform picture bytes into the network's pixels, as one TensorFlow graph that is exported with the model."""

from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

COMPONENTS = 8

Tensors = dict[str, tf.Tensor]


def preprocessing_fn(inputs: Tensors, custom_config: dict[str, Any]) -> Tensors:
    """Decode, resize and normalise pictures, and project them onto principal components.

    Args:
        inputs: ``image`` (PNG or JPEG bytes) and ``label_id``, each ``[batch, 1]``, and features that only the statistics use.
        custom_config: ``settings`` with ``height``, ``width`` and ``channels``.

    Returns:
        ``pixels`` float32 ``[batch, height, width, channels]`` in 0..1, ``pca`` float32 ``[batch, COMPONENTS]`` and the
        label ``label_id`` int64 ``[batch, 1]``, the index of the class in sorted order.
    """
    settings = custom_config["settings"]
    shape = (settings["height"], settings["width"], settings["channels"])
    pixels = decode(inputs["image"], shape)
    return {
        "pixels": pixels,
        "pca": _pca(tf.reshape(pixels, [-1, shape[0] * shape[1] * shape[2]])),
        "label_id": inputs["label_id"],
    }


def decode(images: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """Decode picture bytes ``[batch, 1]`` to float32 ``[batch, height, width, channels]`` in 0..1."""
    height, width, channels = shape

    def decode_one(data: tf.Tensor) -> tf.Tensor:
        picture = tf.io.decode_image(data, channels=channels, expand_animations=False)
        return tf.image.resize(tf.cast(picture, tf.float32), (height, width)) / 255.0

    pixels = tf.map_fn(decode_one, tf.reshape(images, [-1]), fn_output_signature=tf.TensorSpec(shape, tf.float32))
    return tf.ensure_shape(pixels, (None, *shape))


def _pca(flat: tf.Tensor) -> tf.Tensor:
    """Project pictures, ``[batch, pixels]``, onto the principal components of the train split; all pixels have one scale.

    Question: A19
    Answer: Dimensionality reduction keeps most of the information in fewer columns: training is faster, collinear columns
        and noise disappear, and the data can be plotted. Methods are PCA, learned embeddings, autoencoders and feature
        selection. The trap is that a direction with little variance may still separate the classes, so measure the metric
        before and after. Here we use the components for plots and comparison; the networks read every column.
    Evidence: tour.evidence.data.transform_graph.dimension_reduction
    Proof: tests/tour/evidence/test_claims.py::test_components_keep_the_signal_in_fewer_columns
    """
    count = min(COMPONENTS, flat.shape[1])
    return tf.matmul(flat, tft.pca(flat, output_dim=count, dtype=tf.float32, name="components"))
