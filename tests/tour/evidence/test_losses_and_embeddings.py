"""Evidence on losses, encoders and embeddings, on small data with independently computed results."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.catalog import CASES
from models.fraud import model as fraud
from models.image import layers
from models.image import model as image
from models.sequences import skip_gram
from models.sequences.embedding import WordVectors
from tour.evidence.data import embedding_vectors
from tour.evidence.network import losses

pytestmark = pytest.mark.system

SETTINGS = {**CASES["image"].settings["data"], **CASES["image"].settings["training"]}


def test_the_receptive_field_is_what_a_gradient_reaches() -> None:
    """The pixels that have a gradient of a number in the last feature map are its receptive field."""
    settings = {**SETTINGS, "filters": 3, "dropout": 0.0, "classes": ["a", "b"]}
    model = image.build(settings, {"pixels": tf.TensorSpec([None, 64, 64, 1], tf.float32)})
    last = [layer for layer in model.layers if isinstance(layer, layers.Residual)][-1]
    # With positive weights no activation blocks the gradient.
    convolutions = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Conv2D)]
    for layer in convolutions:
        layer.set_weights([np.ones_like(weight) * 0.1 for weight in layer.get_weights()])
    pixels = tf.Variable(tf.random.uniform([1, 64, 64, 1], 0.1, 1.0, seed=1))
    up_to_last = keras.Model(model.inputs, last.output)
    with tf.GradientTape() as tape:
        center = up_to_last({"pixels": pixels}, training=False)[0, 8, 8, 0]
    reached = np.flatnonzero(np.abs(tape.gradient(center, pixels).numpy()[0, :, :, 0]).sum(axis=0) > 0)
    table = losses.receptive_field(model)
    field = int(table.rows[-1][2].split()[0])
    # A max pooling passes its gradient to one pixel in two, so the reached pixels may be slightly fewer than the field.
    assert field - 4 <= reached[-1] - reached[0] + 1 <= field
    assert sum(row[1] for row in table.rows) == sum(layer.count_params() for layer in convolutions)


def test_decision_losses_match_formulas() -> None:
    truth, scores = np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.6, 0.1, 0.2, 0.05])
    table, share, errors, _ = losses.decision_losses(fraud, truth, scores, np.array([4.0, 1.0, 2.0, 3.0]))
    rows = {row[:2]: row[2:] for row in table.rows}
    losses_by_row = [-math.log(0.6), -math.log(0.9), -math.log(0.8), -math.log(0.95)]
    assert rows[1.0, 0.0][0] == pytest.approx(np.mean(losses_by_row), rel=1e-4)
    assert rows[10.0, 0.0][1] == pytest.approx(
        10 * losses_by_row[0] / (10 * losses_by_row[0] + sum(losses_by_row[1:])), rel=1e-4
    )
    focal = [
        0.4**2 * losses_by_row[0],
        0.1**2 * losses_by_row[1],
        0.2**2 * losses_by_row[2],
        0.05**2 * losses_by_row[3],
    ]
    assert rows[1.0, 2.0][0] == pytest.approx(np.mean(focal), rel=1e-4)
    assert rows[1.0, 2.0][2] == pytest.approx(sum(sorted(focal)[:2]) / sum(focal), rel=1e-3)
    assert share.value == 25.0 and dict(errors.rows) == {"negative": 2.0, "positive": 4.0}


def test_class_losses_match_formulas() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1]])
    rows = {row[0]: row[1:] for row in losses.class_losses(np.array([0, 1]), probabilities).rows}
    assert rows["right"] == (1, pytest.approx(-math.log(0.7))) and rows["wrong"] == (1, pytest.approx(-math.log(0.4)))
    assert rows["equal probabilities"] == (2, pytest.approx(math.log(3)))


def test_a_probability_overflows_where_its_logit_does_not() -> None:
    rows = {row[0]: row[1:] for row in losses.saturated_loss().rows}
    assert rows[200.0][0] == 200.0 and math.isinf(rows[200.0][1])
    assert rows[10.0][0] == pytest.approx(rows[10.0][1], rel=1e-2)


def test_plain_layers_have_about_as_many_parameters() -> None:
    model = losses._plain((8, 8, 1), 10, 50_000)
    assert 45_000 < model.count_params() < 55_000


def test_embedding_parameters_and_neighbours_are_listed() -> None:
    facts = {"settings": dict.fromkeys(embedding_vectors.PARAMETERS, 7), "words": 2, "sequences": 3, "tokens": 4}
    rows = {row[0]: row[1] for row in embedding_vectors.embedding_parameters(facts).rows}
    assert len(embedding_vectors.PARAMETERS) == 6 and all(rows[name] == 7 for name in embedding_vectors.PARAMETERS)
    matrix = np.array([[1, 0], [1, 1], [0, 1]], np.float32)
    neighbours = embedding_vectors.neighbours(WordVectors(["a", "b", "c"], matrix, facts), ["a"]).rows
    assert [row[:2] for row in neighbours] == [("a", "b"), ("a", "c")]


def test_the_full_softmax_pays_for_a_large_vocabulary_and_negative_sampling_does_not() -> None:
    """Counts floating-point operations, which do not depend on the machine."""

    def operations(words: int, name: str) -> int:
        model, batch = skip_gram.SkipGramModel(words, 16, 32, 0.1, seed=1), tf.TensorSpec([64], tf.int64)
        graph = getattr(model, name).get_concrete_function(batch, batch).graph
        options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation() | {"output": "none"}
        return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops

    small, large = ([operations(words, f"{way}_step") for way in ("sampled", "softmax")] for words in (200, 20_000))
    assert large[0] < 2 * small[0] and large[1] > 50 * small[1]
    assert large[1] > 50 * large[0]


def test_a_step_is_timed_both_ways_for_each_vocabulary() -> None:
    small, large = embedding_vectors.time_steps({"embedding_size": 16, "num_sampled": 32}, (200, 400)).rows
    assert (small[0], large[0]) == (200, 400)
    for _, sampled, full, ratio in (small, large):
        assert sampled > 0 and ratio == full / sampled
