"""Layers that Keras lacks: a residual block with optional rematerialisation to save memory, and a random shift.

The classes are not registered with Keras, as TFX loads modules repeatedly: pass ``LAYERS`` as ``custom_objects`` to load a
saved model.
"""

from typing import Any

import keras


class Residual(keras.layers.Layer):
    """Two 3x3 convolutions with a shortcut (He et al. 2016), ``[batch, height, width, channels]`` to the same shape.

    Args:
        batch_norm: Whether batch normalisation follows each convolution; otherwise the convolution has a bias.
        synchronized: Whether the moments are computed over the batches of all replicas.
        l2: L2 penalty on the kernels.
        remat: Whether training stores only the input of the block and recomputes the rest in the backward pass.

    Question: B11
    Answer: Subclass Layer. __init__ takes plain values, build creates the weights that depend on the input shape, and call
        computes the output, with a `training` argument where it matters. get_config returns the constructor's arguments,
        so that a saved model can recreate the layer; register its class or pass it as custom_objects. Ours is a residual
        block: keras.remat needs one function to recompute, which a plain chain of layers does not offer.
    Evidence: tour.evidence.network.custom_layers.custom_layer
    Proof: tests/models/image/test_model.py::test_residual_block_is_restored_from_disk_with_equal_outputs
    """

    def __init__(
        self, batch_norm: bool = True, synchronized: bool = False, l2: float = 0.0, remat: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.batch_norm, self.synchronized, self.l2, self.remat = batch_norm, synchronized, l2, remat

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create as many filters as ``shape`` has channels, so that the sum with the input has one shape."""
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
        """Compute the block, in training with ``remat`` in a way that is recomputed for the gradient."""
        if not (self.remat and training):
            return self._block(inputs, training)
        calls = []

        def block(hidden: Any) -> Any:
            calls.append(hidden)
            if len(calls) == 1:
                return self._block(hidden, training)
            # The second call is for the gradient; in this scope the moving moments are not updated again.
            with keras.StatelessScope():
                return self._block(hidden, training)

        return keras.remat(block)(inputs)

    def _block(self, inputs: Any, training: bool | None) -> Any:
        hidden = inputs
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            hidden = keras.ops.relu(hidden) if index else hidden
            hidden = norm(convolution(hidden), training=training)
        return keras.ops.relu(inputs + hidden)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        names = ("batch_norm", "synchronized", "l2", "remat")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


class Shift(keras.layers.Layer):
    """Shift each picture by a random number of whole pixels in training, with zeros at the border; identity otherwise.

    It uses two matrix products for each picture, as Keras' ``RandomTranslation`` uses an operation that XLA cannot compile.

    Args:
        share: The largest shift, as a share of height and of width.
    """

    def __init__(self, share: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.share, self.seeds = share, keras.random.SeedGenerator()

    def build(self, shape: tuple[int, ...]) -> None:
        """Compute the largest shift in pixels from ``shape``; there are no weights."""
        self.most = tuple(round(self.share * side) for side in shape[1:3])

    def call(self, pictures: Any, training: bool | None = None) -> Any:
        """Shift pictures ``[batch, height, width, channels]``; the shape does not change."""
        if not training:
            return pictures
        batch = keras.ops.shape(pictures)[0]
        rows, columns = (
            self._shift_matrices(batch, side, most) for side, most in zip(pictures.shape[1:3], self.most, strict=True)
        )
        return keras.ops.einsum("bij,bkl,bjlc->bikc", rows, columns, pictures)

    def _shift_matrices(self, batch: Any, side: int, most: int) -> Any:
        """Return 0-1 matrices, ``[batch, side, side]``; row i selects the source of pixel i and is 0 for one outside."""
        offset = keras.random.randint((batch, 1), -most, most + 1, seed=self.seeds)
        return keras.ops.one_hot(offset + keras.ops.arange(side, dtype="int32"), side, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "share": self.share}


MOMENTUM = 0.9  # of the moving moments, as a run of the digits has only a few hundred steps
LAYERS = {"Residual": Residual, "Shift": Shift}
