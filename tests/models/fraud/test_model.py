"""Parts of the fraud network against their formulas, and the effect of each setting."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.score_calibration import expected_calibration_error
from models.fraud import features, model
from models.fraud.case import CASE, ENCODERS
from models.fraud.layers import Anomaly, Heads, Likeness, Views
from models.sequences.embedding import WordVectors

SETTINGS = {**CASE.settings["training"], "width": 8, "members": 3}
SPECS = {
    "numeric": tf.TensorSpec([None, 5], tf.float32),
    "codes": tf.TensorSpec([None, 4], tf.int64),
    "past": tf.TensorSpec([None, 8, 6], tf.float32),
    "merchants": tf.TensorSpec([None, 9], tf.int64),
}


def rows(number: int = 6, seed: int = 1) -> dict[str, np.ndarray]:
    """Transformed features."""
    rng = np.random.default_rng(seed)
    return {
        "numeric": rng.normal(size=(number, 5)).astype(np.float32),
        "codes": rng.integers(0, 256, (number, 4)),
        "past": rng.random((number, 8, 6)).astype(np.float32),
        "merchants": rng.integers(0, 4, (number, 9)),
    }


def build(pretrained: str = "", **changes: object) -> keras.Model:
    keras.utils.set_random_seed(1)
    return model.build({**SETTINGS, **changes}, SPECS, pretrained)


@pytest.fixture
def embedding(tmp_path) -> str:
    matrix = np.random.default_rng(2).normal(size=(4, 3)).astype(np.float32)
    WordVectors(["a", "b", "c", ""], matrix, {}).save(tmp_path / "vectors")
    return str(tmp_path / "vectors")


# Losses.


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_equals_its_formula(gamma: float) -> None:
    truth, logits, error = [1.0, 0.0, 1.0], [[0.3, -2.0], [1.5, 0.1], [4.0, -4.0]], [0.7, 0.2, 9.0]
    settings = {"loss": "focal", "focal_gamma": gamma, "positive_weight": 3.0}
    outputs = tf.constant([[*row, reconstruction] for row, reconstruction in zip(logits, error, strict=True)])
    actual = model.loss(settings)(tf.constant(truth)[:, None], outputs).numpy()
    for row, y in enumerate(truth):
        member_losses = []
        for logit in logits[row]:
            p = sigmoid(logit) if y else 1 - sigmoid(logit)
            member_losses.append(-((1 - p) ** gamma) * math.log(p) * (3.0 if y else 1.0))
        assert actual[row] == pytest.approx(np.mean(member_losses) + (0.0 if y else error[row]), rel=1e-5)


def test_weighted_loss_scales_frauds_and_is_finite_for_large_logits() -> None:
    settings = {**SETTINGS, "loss": "weighted", "positive_weight": 5.0}
    outputs = tf.constant([[0.4, 0.0], [0.4, 0.0], [-400.0, 0.0]])
    actual = model.loss(settings)(tf.constant([[1.0], [0.0], [1.0]]), outputs).numpy()
    assert actual[0] == pytest.approx(-5 * math.log(sigmoid(0.4)), rel=1e-5)
    assert actual[1] == pytest.approx(-math.log(1 - sigmoid(0.4)), rel=1e-5)
    assert actual[2] == pytest.approx(2000.0)


def test_autoencoder_gradients_come_only_from_honest_purchases() -> None:
    network, batch = build(), rows()
    for truth, has_gradient in ((1.0, False), (0.0, True)):
        with tf.GradientTape() as tape:
            outputs = network(batch, training=True)
            total = tf.reduce_sum(model.loss(SETTINGS)(tf.fill([6, 1], truth), outputs))
        weights = network.get_layer("anomaly").trainable_variables
        gradients = tape.gradient(total, weights)
        assert len(weights) == 8
        assert any(float(tf.reduce_max(tf.abs(gradient))) > 0 for gradient in gradients) is has_gradient


# Layers.


def test_outputs_are_members_in_training_and_their_mean_otherwise() -> None:
    network, batch = build(), rows()
    members, mean = network(batch, training=True).numpy(), network(batch, training=False).numpy()
    assert members.shape == (6, 4) and mean.shape == (6, 2)
    assert np.allclose(members[:, :3].mean(axis=1), mean[:, 0], atol=1e-6)
    assert np.allclose(members[:, 3], mean[:, 1]) and members[:, :3].std(axis=1).min() > 0


def test_views_and_heads_equal_their_formulas() -> None:
    x = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
    views, heads = Views(3), Heads()
    scaled = views(x).numpy()
    scale = views.scale.numpy()
    assert set(np.unique(scale)) == {-1.0, 1.0}
    assert np.allclose(scaled, np.stack([x * scale[member] for member in range(3)], axis=1))
    logits = heads(scaled, training=True).numpy()
    kernel, bias = (weight.numpy() for weight in heads.weights)
    for member in range(3):
        assert np.allclose(logits[:, member], scaled[:, member] @ kernel[member] + bias[member], atol=1e-5)


def test_likeness_equals_the_cosine() -> None:
    x = np.random.default_rng(1).normal(size=(2, 4, 3)).astype(np.float32)
    x[0, 2] = 0
    actual = Likeness()(x).numpy()
    for row in range(2):
        for step in range(3):
            first, other = x[row, 0], x[row, 1 + step]
            length = np.linalg.norm(first) * np.linalg.norm(other)
            assert actual[row, step, 0] == pytest.approx(first @ other / length if length else 0.0, abs=1e-4)


def test_anomaly_is_the_squared_error_of_clipped_inputs() -> None:
    layer, x = Anomaly(4, 2, most=1.0), np.array([[0.5, -3.0, 0.1]], np.float32)
    actual = float(layer(x)[0, 0])
    clipped = hidden = np.array([0.5, -1.0, 0.1])
    for index, dense in enumerate(layer.layers):
        hidden = hidden @ dense.kernel.numpy() + dense.bias.numpy()
        hidden = np.maximum(hidden, 0) if index in (0, 2) else hidden
    assert actual == pytest.approx(np.mean((hidden - clipped) ** 2), rel=1e-4)


def test_network_is_restored_from_disk(tmp_path) -> None:
    network = build()
    network.save(tmp_path / "model.keras")
    from models.fraud import layers

    custom_objects = {name: getattr(layers, name) for name in ("Periodic", "Views", "Heads", "Likeness", "Anomaly")}
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects=custom_objects)
    assert np.allclose(network(rows()), loaded(rows()), atol=1e-6)
    assert loaded.get_layer("views").members == 3 and loaded.get_layer("anomaly").code == 8


# Settings.


@pytest.mark.parametrize("encoder", ENCODERS)
def test_outputs_depend_on_the_past_as_the_encoder_does(encoder: str) -> None:
    network, batch = build(past_encoder=encoder), rows()
    before = network(batch).numpy()
    batch["past"] = batch["past"][:, ::-1].copy()
    assert before.shape == (6, 2)
    assert np.allclose(network(batch), before) is (
        encoder in ("none", "attention")
    )  # attention is independent of the order
    batch["past"] = batch["past"] + 1
    assert np.allclose(network(batch), before) is (encoder == "none")


def test_l2_adds_to_the_loss_and_dropout_makes_training_random() -> None:
    assert build().losses == [] and float(sum(build(l2=0.1).losses)) > 0
    batch = rows()
    for rate, equal in ((0.0, True), (0.5, False)):
        network = build(dropout=rate)
        first, second = (network(batch, training=True).numpy()[:, :3] for _ in range(2))
        assert np.allclose(first, second) is equal
        assert np.allclose(network(batch), network(batch))


def test_merchants_matter_only_with_vectors_and_frozen_vectors_do_not_change(embedding: str) -> None:
    batch, other = rows(), rows() | {"merchants": rows(seed=9)["merchants"]}
    without = build()
    assert np.allclose(without(batch), without(other))
    for kind, trained in (("frozen", False), ("tuned", True)):
        network = build(embedding, merchant_vectors=kind)
        assert not np.allclose(network(batch), network(other))
        layer = network.get_layer("merchant_embedding")
        assert bool(layer.trainable_weights) is trained
        assert np.array_equal(layer.get_weights()[0], WordVectors.load(embedding).matrix)
    assert np.allclose(build(embedding, merchant_vectors="none")(batch), without(batch))


def test_anomaly_is_in_the_answers_and_in_the_metrics() -> None:
    outputs = np.array([[3.0, 0.1], [-3.0, 0.9], [0.0, 0.5], [-1.0, 0.2]], np.float32)
    point = {"slope": 2.0, "intercept": -1.0, "threshold": 0.5}
    answers = model.answers(tf.constant(outputs), point, SETTINGS)
    assert np.allclose(answers["anomaly"], outputs[:, 1]) and answers["decision"].numpy().tolist() == [
        1,
        0,
        0,
        0,
    ]
    assert float(answers["score"][0]) == pytest.approx(sigmoid(5.0))
    truth = np.array([[1.0], [0.0], [0.0], [0.0]])
    assert model.quality(truth, outputs) == {"pr_auc": 1.0, "anomaly_pr_auc": 0.25}
    assert model.quality(truth, outputs[:, :1]) == {"pr_auc": 1.0}


# Calibration and features.


def test_calibration_error_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(103)
    truth = (rng.random(103) < scores**2).astype(float)
    order, expected, start = sorted(range(103), key=lambda row: scores[row]), 0.0, 0
    for index in range(10):
        size = 11 if index < 3 else 10
        part = order[start : start + size]
        start += size
        expected += abs(sum(scores[r] for r in part) - sum(truth[r] for r in part)) / 103
    assert expected_calibration_error(truth, scores, bins=10) == pytest.approx(expected)


def test_calibration_error_is_small_for_calibrated_and_large_for_overestimated_scores() -> None:
    rng = np.random.default_rng(1)
    scores = rng.beta(0.3, 6, 60_000)
    truth = (rng.random(60_000) < scores).astype(float)
    assert expected_calibration_error(truth, scores) < 0.004
    assert expected_calibration_error(truth, np.minimum(scores + 0.1, 1)) == pytest.approx(0.1, abs=0.01)
    assert expected_calibration_error(np.zeros(0), np.zeros(0)) == 0.0


def raw(amounts: list[float], ages: list[float], merchants: list[str]) -> dict[str, tf.Tensor]:
    """Raw features of a purchase of 50 at m1 with a past, oldest first, padded on the left."""
    pad = 8 - len(amounts)
    scalars = dict.fromkeys((*features.AMOUNTS, *features.COUNTS, *features.RISKS), 0.0) | {"amount": 50.0}
    columns = {name: tf.constant([[value]], tf.float32) for name, value in scalars.items()}
    return columns | {
        "event_time": tf.constant([[1_000_000]], tf.int64),
        "merchant_id": tf.constant([["m1"]]),
        "past_amount": tf.constant([[0.0] * pad + amounts]),
        "past_age": tf.constant([[0.0] * pad + ages]),
        "past_merchant": tf.constant([[""] * pad + merchants]),
    }


def test_amount_features_compare_with_the_last_purchases() -> None:
    actual = features._amounts(raw([10.0, 90.0], [9e5, 100.0], ["m2", "m1"])).numpy()[0]
    logs, amount = [math.log(11), math.log(91)], math.log(51)
    mean, spread = np.mean(logs), np.std(logs)
    expected = [amount - mean, (amount - mean) / (spread + 0.3), amount - logs[1], amount - logs[0]]
    assert actual == pytest.approx(expected, rel=1e-4)
    assert features._amounts(raw([], [], [])).numpy()[0] == pytest.approx([0, 0, amount, 0], rel=1e-5)


def test_rhythm_features_count_recent_purchases_and_compare_hours_with_older_ones() -> None:
    day, ages = 86_400.0, [3 * 86_400.0 + 21_600, 2 * 86_400.0, 1800.0, 60.0]
    actual = features._rhythm(raw([20.0, 20.0, 3.0, 20.0], ages, ["m2", "m1", "m3", "m1"])).numpy()[0]
    week = [math.cos(2 * math.pi * age / (7 * day)) for age in ages[:2]]
    # Within 15 minutes, 1 hour and 6 hours; small ones within 1 hour; at this merchant; cosines of a quarter day and of 0.
    assert actual == pytest.approx([1, 2, 2, 1, 2, (0 + 1) / 2, np.mean(week)], abs=1e-3)
    assert features._rhythm(raw([], [], [])).numpy()[0].tolist() == [0] * 7
