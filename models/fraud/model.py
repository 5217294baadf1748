"""The fraud network: the purchase beside an encoding of the last purchases, one logit, and an anomaly beside it."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from models.embedding import Embedding
from models.fraud.costs import served_threshold
from models.fraud.features import CATEGORIES, PAST, VOCABULARY
from models.fraud.layers import Anomaly, Heads, Likeness, Periodic, Recomputed, Views

INPUTS = ("numeric", "codes", "past", "merchants")
LABEL = "is_fraud"
MONITOR = "pr_auc"
SCORE = "score"
ENCODERS = ("gru", "dense", "attention", "none")
LOSSES = ("weighted", "focal")


def build(settings: Mapping[str, Any], features: Mapping[str, tf.TensorSpec], pretrained: str = "") -> keras.Model:
    """A Keras model from transformed features to a logit and the anomaly's squared error, ``[batch, 2]``.

    In training it gives every member's logit and the error, ``[batch, members + 1]``.

    Args:
        settings: ``width`` of the hidden layers, their ``dropout``, ``l2`` and ``remat``, ``members`` of the ensemble,
            ``frequencies`` of a number's phases, ``past_encoder``, and ``merchant_vectors``: ``frozen``, ``tuned`` or ``none``.
        features: Shapes and types of the transformed features, by name.
        pretrained: Folder of the merchants' embedding, its rows in the order of the transform graph's vocabulary; empty
            for none.

    Raises:
        ValueError: for an encoder or a loss that is not known.
    """
    _known("past_encoder", settings["past_encoder"], ENCODERS)
    _known("loss", settings["loss"], LOSSES)
    inputs = {
        name: keras.Input(features[name].shape[1:], dtype=features[name].dtype.name, name=name) for name in INPUTS
    }
    codes = keras.layers.Embedding((len(CATEGORIES) + 1) * VOCABULARY, 6, name="code_embedding")(inputs["codes"])
    parts = [inputs["numeric"], keras.layers.Flatten()(codes)]
    if settings["frequencies"]:
        parts.append(Periodic(settings["frequencies"], name="periodic")(inputs["numeric"]))
    parts += _past(inputs, settings, _merchants(inputs, settings, pretrained))
    hidden = _rows(Views(settings["members"], name="views")(keras.layers.Concatenate()(parts)))
    for width in (settings["width"], settings["width"] // 2):
        dense = _dense(width, settings)
        hidden = (Recomputed(dense) if settings["remat"] else dense)(hidden)
        # A rate of nothing still draws its random numbers, and they took half of a step.
        hidden = keras.layers.Dropout(settings["dropout"])(hidden) if settings["dropout"] else hidden
    # What is compared and summed comes out in the precision of the weights, also where layers compute in bfloat16.
    full = keras.config.dtype_policy().variable_dtype
    logits = Heads(name="heads", dtype=full)(keras.ops.reshape(hidden, (-1, settings["members"], hidden.shape[-1])))
    anomaly = Anomaly(name="anomaly", dtype=full)(inputs["numeric"])
    return keras.Model(inputs, keras.layers.Concatenate(dtype=full)([logits, anomaly]), name="fraud")


def _known(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"Setting '{name}' is one of {', '.join(choices)}, not '{value}'.")


def _dense(width: int, settings: Mapping[str, Any], **more: Any) -> keras.layers.Dense:
    l2 = keras.regularizers.L2(settings["l2"]) if settings["l2"] else None
    return keras.layers.Dense(width, activation="relu", kernel_regularizer=l2, **more)


def _rows(values: Any) -> Any:
    """``[batch, n, columns]`` as ``[batch * n, columns]``: a dense layer of three axes asks for their sizes at every call,
    which costs more than its product where rows are few."""
    return keras.ops.reshape(values, (-1, values.shape[-1]))


def _merchants(inputs: Mapping[str, Any], settings: Mapping[str, Any], pretrained: str) -> Any:
    """How like this merchant those of the last purchases are, ``[batch, PAST, 1]``; None without an embedding."""
    if not pretrained or settings["merchant_vectors"] == "none":
        return None
    table = Embedding.load(pretrained).matrix
    vectors = keras.layers.Embedding(
        *table.shape,
        embeddings_initializer=keras.initializers.Constant(table),
        trainable=settings["merchant_vectors"] == "tuned",
        name="merchant_embedding",
    )(inputs["merchants"])
    return Likeness(name="likeness")(vectors) * inputs["past"][:, :, 3:4]


def _past(inputs: Mapping[str, Any], settings: Mapping[str, Any], likeness: Any) -> list[Any]:
    """The last purchases as one vector, ``[batch, n]``; none for no encoder.

    Each step sees the present amount too, so that what is unusual is a relation and not a level. ``gru`` reads the steps one
    after the other; ``dense`` reads every step with the same small network and keeps them side by side; ``attention`` asks
    them from the present purchase. The first did best on valid of three generator seeds (``benchmarks/results/fraud.json``).

    Question: A17
    Answer: A CNN shares weights over space: a unit sees a neighbourhood, which layers widen; it is small and parallel.
        An RNN shares weights over time and carries a state: any length, but one step after another, and gradients
        fade, so LSTM and GRU gate them. Pictures: a CNN. Sequences: an RNN where order and length matter; attention,
        parallel and without fading, has replaced many. Here both are measured against models without them.
    Evidence: tour.evidence.network.losses.encoders
    Proof: tests/tour/evidence/test_losses_and_embeddings.py::test_the_receptive_field_is_what_a_gradient_reaches
    """
    present = keras.layers.RepeatVector(PAST)(inputs["numeric"][:, :1])
    steps = keras.layers.Concatenate()([inputs["past"], present, *([] if likeness is None else [likeness])])
    wide, narrow = 32, 16
    match settings["past_encoder"]:
        case "dense":
            steps = _dense(narrow, settings)(_dense(wide, settings)(_rows(steps)))
            return [keras.ops.reshape(steps, (-1, PAST * narrow))]
        case "gru":
            # Unrolled: PAST steps in a row without a loop, which the edge could not run.
            return [keras.layers.GRU(wide, unroll=True, name="past_vector")(_dense(narrow, settings)(steps))]
        case "attention":
            query = keras.layers.Reshape((1, wide))(keras.layers.Dense(wide)(inputs["numeric"]))
            answer = keras.layers.MultiHeadAttention(2, narrow)(query, _dense(wide, settings)(steps))
            return [keras.layers.Flatten(name="past_vector")(answer)]
    return []


def loss(settings: Mapping[str, Any]) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Cross-entropy of labels ``[batch, 1]`` and logits, and the anomaly's squared error on honest purchases; ``[batch]``.

    The outputs are ``[batch, members + 1]``, the error last: members' losses are averaged. A fraud counts
    ``positive_weight`` times. ``focal`` multiplies by (1 - p) ** ``focal_gamma``, p being the probability of what is true
    (Lin et al. 2017), so that what is easy counts less. The autoencoder shares no weight with the rest.

    Question: A16
    Answer: A loss says how wrong an output is, differentiably. Binary cross-entropy for yes or no, sparse categorical for
        one of several classes, squared error for quantities, such as an autoencoder's reconstruction. Give logits, not
        probabilities, or it can overflow. With few positives weight them or use a focal loss, and recalibrate after. A
        loss is not the business metric: choose by the metric and the prices of errors.
    Evidence: tour.evidence.network.losses.on_predictions
    Proof: tests/models/fraud/test_model.py::test_the_focal_loss_is_its_formula
    """
    weight, gamma = settings["positive_weight"], settings["focal_gamma"] if settings["loss"] == "focal" else 0.0

    def losses(truth: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        logits, error = outputs[:, :-1], outputs[:, -1]
        truth = tf.cast(truth, logits.dtype)
        entropy = tf.nn.weighted_cross_entropy_with_logits(tf.broadcast_to(truth, tf.shape(logits)), logits, weight)
        if gamma:
            entropy *= tf.sigmoid(logits * (1.0 - 2.0 * truth)) ** gamma
        return tf.reduce_mean(entropy, axis=1) + (1.0 - truth[:, 0]) * error

    return losses


def quality(truth: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """``pr_auc``, the area under precision and recall (average precision), of labels ``[rows, 1]`` and logits or scores.

    Args:
        truth: Labels, ``[rows, 1]``.
        outputs: Logits and the anomaly's errors, ``[rows, 2]``, or scores alone, ``[rows, 1]``; ``anomaly_pr_auc`` is what
            the error, which has seen no fraud, is worth by itself.
    """
    names = ("pr_auc", "anomaly_pr_auc")
    return {
        name: float(average_precision_score(truth[:, 0], column))
        for name, column in zip(names, outputs.T, strict=False)
    }


def operating_point(settings: Mapping[str, Any], truth: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """Calibration and threshold from the validation split, labels ``[rows, 1]`` and outputs ``[rows, 2]``.

    The weighted loss overstates probabilities; Platt's scaling (Platt 1999) of the logit takes that back. With calibrated
    scores the cheapest threshold follows from the costs alone (Elkan 2001): stop a purchase where the expected loss of
    letting it pass exceeds the cost of a review.
    """
    platt = LogisticRegression(C=1e6).fit(outputs[:, :1], truth[:, 0])
    slope, intercept = float(platt.coef_[0, 0]), float(platt.intercept_[0])
    if slope <= 0:
        # Too few frauds to fit on: to turn the order of the scores round is never right. The weight alone is taken back.
        slope, intercept = 1.0, -float(np.log(settings["positive_weight"]))
    threshold = served_threshold(settings)
    return {"slope": slope, "intercept": intercept, "threshold": threshold}


def answers(outputs: tf.Tensor, point: Mapping[str, float], settings: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """What a client gets, each float32 ``[batch]``.

    ``score`` is the probability of fraud, ``decision`` 1 to stop, and ``anomaly`` the autoencoder's squared error: how
    unlike honest purchases this one is, whether or not such a fraud has been seen before.
    """
    score = tf.sigmoid(outputs[:, 0] * point["slope"] + point["intercept"])
    return {"score": score, "decision": tf.cast(score >= point["threshold"], tf.float32), "anomaly": outputs[:, 1]}
