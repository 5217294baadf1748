"""Layers that Keras lacks: periodic features, an ensemble with shared weights, cosine similarity, an anomaly score."""

import math
from typing import Any

import keras


class Periodic(keras.layers.Layer):
    """Learned sines and cosines of each number, mixed a column at a time (Gorishniy et al. 2022, "PLR").

    ``[batch, columns]`` becomes ``[batch, columns * outputs]``. The measured effect is in ``benchmarks/results/fraud.json``.

    Args:
        frequencies: Number of frequencies for each column.
        deviation: Standard deviation of the initial frequencies; with a small one the layer starts almost linear.
        outputs: Number of outputs for each column.
    """

    def __init__(self, frequencies: int = 8, deviation: float = 0.1, outputs: int = 6, **kwargs: Any):
        super().__init__(**kwargs)
        self.frequencies, self.deviation, self.outputs = frequencies, deviation, outputs

    def build(self, shape: tuple[int | None, int]) -> None:
        """Create weights for ``shape[1]`` columns."""
        columns = shape[1]
        normal = keras.initializers.RandomNormal(stddev=self.deviation)
        self.frequency = self.add_weight(shape=(columns, self.frequencies), initializer=normal, name="frequency")
        self.kernel = self.add_weight(shape=(columns, 2 * self.frequencies, self.outputs), name="kernel")
        self.bias = self.add_weight(shape=(columns, self.outputs), initializer="zeros", name="bias")

    def call(self, inputs: Any) -> Any:
        """Compute one matrix product for each column, batched over columns: ``[columns, batch, 2 * frequencies]``."""
        angles = 2 * math.pi * keras.ops.transpose(inputs)[:, :, None] * self.frequency[:, None, :]
        phases = keras.ops.concatenate([keras.ops.sin(angles), keras.ops.cos(angles)], axis=2)
        mixed = keras.ops.relu(keras.ops.matmul(phases, self.kernel) + self.bias[:, None, :])
        return keras.ops.reshape(keras.ops.transpose(mixed, (1, 0, 2)), (-1, inputs.shape[1] * self.outputs))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        config = {"frequencies": self.frequencies, "deviation": self.deviation, "outputs": self.outputs}
        return {**super().get_config(), **config}


class Views(keras.layers.Layer):
    """One scaled copy of the inputs for each member of an ensemble; the learned scales start at random as 1 or -1.

    ``[batch, columns]`` becomes ``[batch, members, columns]``. With all other weights shared and a head for each member, this
    gives an ensemble with about the weights of one network (TabM-mini, Gorishniy et al. 2025).
    """

    def __init__(self, members: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.members = members

    def build(self, shape: tuple[int | None, int]) -> None:
        """Create a scale for each member and column."""
        self.scale = self.add_weight(shape=(self.members, shape[1]), initializer=_signs, name="scale")

    def call(self, inputs: Any) -> Any:
        """Scale the inputs, ``[batch, members, columns]``."""
        return inputs[:, None, :] * self.scale

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "members": self.members}


class Heads(keras.layers.Layer):
    """One logit for each member, with separate weights: ``[batch, members, columns]`` to ``[batch, members]``.

    In training the outputs are all members, as each is trained on its own; otherwise their mean, ``[batch, 1]``.
    """

    def build(self, shape: tuple[int | None, int, int]) -> None:
        """Create weights for each of ``shape[1]`` members."""
        self.kernel = self.add_weight(shape=shape[1:], name="kernel")
        self.bias = self.add_weight(shape=shape[1:2], initializer="zeros", name="bias")

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Compute the logits."""
        logits = keras.ops.sum(inputs * self.kernel, axis=2) + self.bias
        return logits if training else keras.ops.mean(logits, axis=1, keepdims=True)


class Recomputed(keras.layers.Layer):
    """Wrapper that recomputes a layer in the backward pass instead of storing its output: less memory, more time.

    Args:
        layer: The layer; its call must not change state.
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any):
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create the weights of the wrapped layer."""
        if not self.layer.built:
            self.layer.build(shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Compute the output of the wrapped layer."""
        return keras.remat(self.layer)(inputs) if training else self.layer(inputs)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "layer": keras.layers.serialize(self.layer)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Recomputed":
        """Create the layer from the result of ``get_config``."""
        return cls(**{**config, "layer": keras.layers.deserialize(config["layer"])})


class Likeness(keras.layers.Layer):
    """Cosine of the first vector with each of the others: ``[batch, 1 + n, size]`` to ``[batch, n, 1]``."""

    def call(self, inputs: Any) -> Any:
        """Compute cosines between -1 and 1; 0 where a vector has length 0."""
        unit = inputs * keras.ops.rsqrt(keras.ops.sum(keras.ops.square(inputs), axis=2, keepdims=True) + 1e-12)
        return keras.ops.sum(unit[:, :1] * unit[:, 1:], axis=2, keepdims=True)


class Anomaly(keras.layers.Layer):
    """Anomaly score: the mean squared reconstruction error of an autoencoder, ``[batch, 1]``.

    Args:
        hidden: Width of the hidden layers of encoder and decoder.
        code: Width of the bottleneck.
        most: Bound at which standardised inputs are clipped; otherwise a few outliers would dominate the error.
    """

    def __init__(self, hidden: int = 24, code: int = 8, most: float = 5.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.hidden, self.code, self.most = hidden, code, most

    def build(self, shape: tuple[int | None, int]) -> None:
        """Create encoder and decoder for ``shape[1]`` columns."""
        widths, activations = (self.hidden, self.code, self.hidden, shape[1]), ("relu", None, "relu", None)
        policy = self.dtype_policy
        self.layers = [
            keras.layers.Dense(width, activation, dtype=policy)
            for width, activation in zip(widths, activations, strict=True)
        ]
        for layer, width in zip(self.layers, (shape[1], *widths), strict=False):
            layer.build((None, width))

    def call(self, inputs: Any) -> Any:
        """Compute the error of each row."""
        clipped = keras.ops.clip(inputs, -self.most, self.most)
        hidden = clipped
        for layer in self.layers:
            hidden = layer(hidden)
        return keras.ops.mean(keras.ops.square(hidden - clipped), axis=1, keepdims=True)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        config = {"hidden": self.hidden, "code": self.code, "most": self.most}
        return {**super().get_config(), **config}


def _signs(shape: tuple[int, ...], dtype: Any = None) -> Any:
    return keras.ops.cast(2 * keras.random.randint(shape, 0, 2) - 1, dtype or "float32")
