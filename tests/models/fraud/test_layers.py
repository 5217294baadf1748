"""Custom layers of the fraud network: against their formulas in NumPy, and after saving and loading."""

import keras
import numpy as np
import tensorflow as tf

from models.fraud.layers import Periodic, Recomputed


def test_periodic_equals_its_formula():
    layer, x = Periodic(3, 0.5, 2), np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
    actual = layer(x).numpy()
    frequency, kernel, bias = (weight.numpy() for weight in layer.weights)
    assert np.abs(kernel).max() > 0 and frequency.std() > 0.1
    expected = np.zeros((5, 4, 2))
    for row in range(5):
        for column in range(4):
            angle = 2 * np.pi * x[row, column] * frequency[column]
            mixed = np.concatenate([np.sin(angle), np.cos(angle)]) @ kernel[column] + bias[column]
            expected[row, column] = np.maximum(mixed, 0)
    assert np.allclose(actual, expected.reshape(5, 8), atol=1e-5)


def test_periodic_is_restored_from_config_and_disk(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Periodic(3, 0.5, 2, name="periodic")(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects={"Periodic": Periodic})
    x = np.ones((2, 4), "float32")
    assert np.array_equal(model(x), loaded(x))
    assert loaded.get_layer("periodic").get_config() == model.get_layer("periodic").get_config()


def test_recomputed_layer_has_equal_outputs_and_gradients(tmp_path):
    x, dense = tf.random.stateless_normal((16, 4), (1, 2)), keras.layers.Dense(8, "relu")
    recomputed = Recomputed(dense)
    gradients = []
    for layer in (dense, recomputed):
        with tf.GradientTape() as tape:
            answer = layer(x, training=True) if layer is recomputed else layer(x)
            loss = tf.reduce_sum(answer**2)
        gradients.append(tape.gradient(loss, [weight.value for weight in dense.trainable_weights]))
    assert all(
        np.allclose(gradient, other) and np.abs(gradient).max() > 0 for gradient, other in zip(*gradients, strict=True)
    )
    inputs = keras.Input((4,))
    model = keras.Model(inputs, recomputed(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects={"Recomputed": Recomputed})
    assert np.allclose(model(x), loaded(x))
