"""The layers that Keras does not have: numbers as phases, several networks in one, likeness of vectors, an anomaly."""

import math
from typing import Any

import keras


class Periodic(keras.layers.Layer):
    """Learned sines and cosines of each number, mixed a column at a time (Gorishniy et al. 2022, "PLR").

    ``[batch, columns]`` becomes ``[batch, columns * outputs]``. What it brings is in ``benchmarks/results/fraud.json``.

    Args:
        frequencies: How many a column.
        deviation: Standard deviation of the initial frequencies; small ones begin near a straight line.
        outputs: Numbers that come out for each column.
    """

    def __init__(self, frequencies: int = 8, deviation: float = 0.1, outputs: int = 6, **kwargs: Any):
        super().__init__(**kwargs)
        self.frequencies, self.deviation, self.outputs = frequencies, deviation, outputs

    def build(self, shape: tuple[int | None, int]) -> None:
        """Weights for ``shape[1]`` columns."""
        columns = shape[1]
        normal = keras.initializers.RandomNormal(stddev=self.deviation)
        self.frequency = self.add_weight(shape=(columns, self.frequencies), initializer=normal, name="frequency")
        self.kernel = self.add_weight(shape=(columns, 2 * self.frequencies, self.outputs), name="kernel")
        self.bias = self.add_weight(shape=(columns, self.outputs), initializer="zeros", name="bias")

    def call(self, inputs: Any) -> Any:
        """One matrix product a column: the columns are the batch of it, ``[columns, batch, 2 * frequencies]``."""
        angles = 2 * math.pi * keras.ops.transpose(inputs)[:, :, None] * self.frequency[:, None, :]
        phases = keras.ops.concatenate([keras.ops.sin(angles), keras.ops.cos(angles)], axis=2)
        mixed = keras.ops.relu(keras.ops.matmul(phases, self.kernel) + self.bias[:, None, :])
        return keras.ops.reshape(keras.ops.transpose(mixed, (1, 0, 2)), (-1, inputs.shape[1] * self.outputs))

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        own = {"frequencies": self.frequencies, "deviation": self.deviation, "outputs": self.outputs}
        return {**super().get_config(), **own}


class Views(keras.layers.Layer):
    """Each member's own view of the same numbers: every column scaled, at first by 1 or -1 at random.

    ``[batch, columns]`` becomes ``[batch, members, columns]``. With all other weights shared and a head each, this makes
    several networks for about the weights of one (TabM-mini, Gorishniy et al. 2025).
    """

    def __init__(self, members: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.members = members

    def build(self, shape: tuple[int | None, int]) -> None:
        """A scale a member and column."""
        self.scale = self.add_weight(shape=(self.members, shape[1]), initializer=_signs, name="scale")

    def call(self, inputs: Any) -> Any:
        """The product, ``[batch, members, columns]``."""
        return inputs[:, None, :] * self.scale

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        return {**super().get_config(), "members": self.members}


class Heads(keras.layers.Layer):
    """One logit a member, each with weights of its own: ``[batch, members, columns]`` to ``[batch, members]``.

    In training all members come out, since each has to be right alone; otherwise their mean, ``[batch, 1]``.
    """

    def build(self, shape: tuple[int | None, int, int]) -> None:
        """Weights for each of ``shape[1]`` members."""
        self.kernel = self.add_weight(shape=shape[1:], name="kernel")
        self.bias = self.add_weight(shape=shape[1:2], initializer="zeros", name="bias")

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Logits."""
        logits = keras.ops.sum(inputs * self.kernel, axis=2) + self.bias
        return logits if training else keras.ops.mean(logits, axis=1, keepdims=True)


class Recomputed(keras.layers.Layer):
    """A layer whose output is not kept for the backward pass but computed again there: less memory, more time.

    Args:
        layer: The layer, without state that its call changes.
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any):
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, shape: tuple[int | None, ...]) -> None:
        """The layer's own weights."""
        if not self.layer.built:
            self.layer.build(shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The layer's output."""
        return keras.remat(self.layer)(inputs) if training else self.layer(inputs)

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        return {**super().get_config(), "layer": keras.layers.serialize(self.layer)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Recomputed":
        """The reverse of ``get_config``."""
        return cls(**{**config, "layer": keras.layers.deserialize(config["layer"])})


class Likeness(keras.layers.Layer):
    """Cosine of the first vector with each of the others: ``[batch, 1 + n, size]`` to ``[batch, n, 1]``."""

    def call(self, inputs: Any) -> Any:
        """Between -1 and 1; 0 where a vector has no length."""
        unit = inputs * keras.ops.rsqrt(keras.ops.sum(keras.ops.square(inputs), axis=2, keepdims=True) + 1e-12)
        return keras.ops.sum(unit[:, :1] * unit[:, 1:], axis=2, keepdims=True)


class Anomaly(keras.layers.Layer):
    """How badly numbers are put together again from a few: the mean squared error of an autoencoder, ``[batch, 1]``.

    Args:
        hidden: Width of the layers on both sides.
        code: Numbers in the middle.
        most: Standardised inputs are cut off at this size, or a few outliers would be all that is learnt.
    """

    def __init__(self, hidden: int = 24, code: int = 8, most: float = 5.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.hidden, self.code, self.most = hidden, code, most

    def build(self, shape: tuple[int | None, int]) -> None:
        """Encoder and decoder for ``shape[1]`` columns."""
        widths, shapes = (self.hidden, self.code, self.hidden, shape[1]), ("relu", None, "relu", None)
        policy = self.dtype_policy
        self.layers = [
            keras.layers.Dense(width, kind, dtype=policy) for width, kind in zip(widths, shapes, strict=True)
        ]
        for layer, width in zip(self.layers, (shape[1], *widths), strict=False):
            layer.build((None, width))

    def call(self, inputs: Any) -> Any:
        """The error of each row."""
        seen = keras.ops.clip(inputs, -self.most, self.most)
        hidden = seen
        for layer in self.layers:
            hidden = layer(hidden)
        return keras.ops.mean(keras.ops.square(hidden - seen), axis=1, keepdims=True)

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        own = {"hidden": self.hidden, "code": self.code, "most": self.most}
        return {**super().get_config(), **own}


def _signs(shape: tuple[int, ...], dtype: Any = None) -> Any:
    return keras.ops.cast(2 * keras.random.randint(shape, 0, 2) - 1, dtype or "float32")
