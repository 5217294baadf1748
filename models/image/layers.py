"""The layers that Keras does not have: a residual block that can be computed twice to save memory, and a shift.

Nothing registers itself, as TFX loads modules again: who loads a saved model passes ``LAYERS`` as ``custom_objects``.
"""

from typing import Any

import keras


class Residual(keras.layers.Layer):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016), ``[batch, height, width, channels]`` to the same shape.

    Args:
        batch_norm: Whether each convolution is followed by batch normalisation; a bias takes its place.
        synchronized: Whether the moments are those of the batches of all replicas.
        l2: Penalty on the kernels.
        remat: Whether training keeps only the block's input and computes the rest again in the backward pass.

    Question: B11
    Answer: Subclass Layer: __init__ takes plain values, build makes what depends on the input's shape, call computes,
        with `training` where it matters. get_config returns what __init__ takes, so that a saved model can make the layer
        again; its class is registered or passed as custom_objects. This block earns its place: keras.remat needs a
        function to call again, which a chain of layers does not offer.
    Evidence: tour.evidence.network.architecture.custom_layer
    Proof: tests/models/image/test_model.py::test_the_block_comes_back_from_disk_and_answers_equally
    """

    def __init__(
        self, batch_norm: bool = True, synchronized: bool = False, l2: float = 0.0, remat: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.batch_norm, self.synchronized, self.l2, self.remat = batch_norm, synchronized, l2, remat

    def build(self, shape: tuple[int | None, ...]) -> None:
        """As many filters as ``shape`` has channels, so that the sum fits: only here is that number known."""
        penalty = keras.regularizers.L2(self.l2) if self.l2 else None
        self.convolutions, self.norms = [], []
        for _ in range(2):
            bias = not self.batch_norm
            self.convolutions.append(
                keras.layers.Conv2D(shape[-1], 3, padding="same", use_bias=bias, kernel_regularizer=penalty)
            )
            norm = keras.layers.BatchNormalization(momentum=MOMENTUM, synchronized=self.synchronized)
            self.norms.append(norm if self.batch_norm else keras.layers.Identity())
        for layer in (*self.convolutions, *self.norms):
            layer.build(shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The block, or the block that forgets what it computed."""
        if not (self.remat and training):
            return self._block(inputs, training)
        calls = []

        def block(hidden: Any) -> Any:
            calls.append(hidden)
            if len(calls) == 1:
                return self._block(hidden, training)
            # The second time is for the gradient: in this scope moving moments take no second update.
            with keras.StatelessScope():
                return self._block(hidden, training)

        return keras.remat(block)(inputs)

    def _block(self, inputs: Any, training: bool | None) -> Any:
        hidden = inputs
        for place, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            hidden = keras.ops.relu(hidden) if place else hidden
            hidden = norm(convolution(hidden), training=training)
        return keras.ops.relu(inputs + hidden)

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        names = ("batch_norm", "synchronized", "l2", "remat")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


class Shift(keras.layers.Layer):
    """Moves each picture by whole pixels while training, filling with zeros; does nothing otherwise.

    Two matrix products a picture: Keras' ``RandomTranslation`` uses an operation that XLA cannot compile.

    Args:
        share: The furthest, as a share of height and of width.
    """

    def __init__(self, share: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.share, self.seeds = share, keras.random.SeedGenerator()

    def build(self, shape: tuple[int, ...]) -> None:
        """No weights; the furthest in pixels follows from ``shape``."""
        self.most = tuple(round(self.share * side) for side in shape[1:3])

    def call(self, pictures: Any, training: bool | None = None) -> Any:
        """``[batch, height, width, channels]`` to the same shape."""
        if not training:
            return pictures
        batch = keras.ops.shape(pictures)[0]
        rows, columns = (
            self._places(batch, side, most) for side, most in zip(pictures.shape[1:3], self.most, strict=True)
        )
        return keras.ops.einsum("bij,bkl,bjlc->bikc", rows, columns, pictures)

    def _places(self, batch: Any, side: int, most: int) -> Any:
        """Row i has its one where the pixel for place i comes from, ``[batch, side, side]``; none from outside."""
        moved = keras.random.randint((batch, 1), -most, most + 1, seed=self.seeds)
        return keras.ops.one_hot(moved + keras.ops.arange(side, dtype="int32"), side, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        return {**super().get_config(), "share": self.share}


MOMENTUM = 0.9  # of moving moments: a run of the digits has few hundred steps
LAYERS = {"Residual": Residual, "Shift": Shift}
