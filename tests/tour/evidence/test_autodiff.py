"""Evidence on automatic differentiation, compared with formulas and with central differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.proofs import EvidenceCache
from support.small_step import small_step

from tour.evidence.network import autodiff, gradient_tapes

pytestmark = pytest.mark.system


def test_the_tape_agrees_with_central_differences_and_a_wrong_gradient_does_not() -> None:
    weights = tf.Variable(np.random.default_rng(1).normal(size=(4, 3)))

    @tf.custom_gradient
    def tilted(x: tf.Tensor):
        return x, lambda upstream: upstream * tf.constant([[1.0, 1.0, 1.02]], tf.float64)

    def right() -> tf.Tensor:
        return tf.reduce_sum(tf.sin(weights) ** 2)

    def wrong() -> tf.Tensor:
        return tf.reduce_sum(tf.sin(tilted(tf.convert_to_tensor(weights))) ** 2)

    original = weights.numpy()
    ((_, _, exact, approximation, error),) = autodiff.compare_gradients(right, [weights])
    assert error < 1e-7 and np.isclose(exact, approximation) and np.array_equal(weights.numpy(), original)
    ((_, _, _, _, error),) = autodiff.compare_gradients(wrong, [weights])
    assert error > 1e-3


def test_central_difference_equals_the_derivative_of_the_formula() -> None:
    x = tf.Variable([2.0], dtype=tf.float64)
    assert np.isclose(autodiff.central_difference(lambda: tf.reduce_sum(x**3), x, np.array([1.0])), 12.0)
    assert x.numpy() == [2.0]


def test_persistent_tapes_second_derivatives_and_stop_gradient() -> None:
    step = small_step()
    plain, persistent = gradient_tapes.persistent_tape(step).rows
    assert plain[1] == persistent[1]
    assert plain[2].startswith("RuntimeError: A non-persistent") and persistent[2].startswith("norm ")
    generator = np.random.default_rng(2)
    truth, logits, direction = (
        generator.integers(0, 2, (9, 1)).astype(float),
        generator.normal(size=(9, 1)),
        generator.normal(size=(9, 1)),
    )
    exact, approximation = gradient_tapes.hessian_product(
        lambda y, z: tf.nn.sigmoid_cross_entropy_with_logits(y, z), truth, tf.constant(logits), tf.constant(direction)
    )
    p = 1 / (1 + np.exp(-logits))
    assert np.allclose(exact, p * (1 - p) * direction) and np.allclose(exact, approximation, atol=1e-8)
    free, stopped = gradient_tapes.stopped_gradient(step).rows
    assert np.isclose(free[1], stopped[1]) and free[2].startswith("norm ") and stopped[2] == "None for every variable"


def test_gradient_norms_by_layer_match_the_formula() -> None:
    step = small_step()
    *_, (name, weights, norm, _) = autodiff.gradient_norms(step).rows
    hidden_layers = keras.Model(step.model.inputs, step.model.layers[-2].output)
    # In training mode, batch normalization updates its moving averages but uses the batch's own: equal in both passes.
    hidden = hidden_layers(step.inputs, training=True).numpy()
    kernel, bias = (variable.numpy() for variable in step.model.layers[-1].trainable_variables)
    logits = hidden @ kernel + bias
    error = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    error[np.arange(len(error)), step.batch["label_id"].numpy()[:, 0]] -= 1
    error /= len(error)
    assert (name, weights) == ("logits", kernel.size + bias.size)
    assert np.isclose(norm, np.sqrt(((hidden.T @ error) ** 2).sum() + (error.sum(axis=0) ** 2).sum()), rtol=1e-4)


def test_indexed_slices_with_a_repeated_row_are_summed() -> None:
    slices = tf.IndexedSlices(tf.ones((2, 3)), tf.constant([1, 1]), tf.constant([2, 3]))
    assert autodiff.to_tensors([slices])[0].numpy().tolist() == [[0.0] * 3, [2.0] * 3]


def test_a_step_written_out_equals_the_trainers(proofs: EvidenceCache) -> None:
    changes, losses = proofs.prove("B12")
    assert all(
        gradient > 0 and change > 1e-5 and difference < change / 100 for _, gradient, change, difference in changes.rows
    )
    (_, trainer_loss), (_, handwritten_loss) = losses.rows
    assert np.isclose(trainer_loss, handwritten_loss, rtol=1e-4)


def test_gradients_of_the_served_network_match_central_differences(proofs: EvidenceCache) -> None:
    table, largest, times, passes = proofs.prove("A4")
    assert 0 < largest.value < 1e-5 and all(row[2] for row in table.rows)
    assert times.rows[1][2] == times.rows[1][1] / times.rows[0][1] and passes.value > 1000
    assert keras.config.dtype_policy().name == "float32"
