"""The fraud network: purchase features and an encoding of the last purchases to a logit and an anomaly score."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from models.evaluation.costs import decision_threshold
from models.fraud.features import CATEGORIES, PAST, VOCABULARY
from models.fraud.layers import Anomaly, Heads, Likeness, Periodic, Recomputed, Views
from models.sequences.embedding import WordVectors

INPUTS = ("numeric", "codes", "past", "merchants")
LABEL = "is_fraud"
MONITOR = "pr_auc"
SCORE = "score"


def build(settings: Mapping[str, Any], features: Mapping[str, tf.TensorSpec], pretrained: str = "") -> keras.Model:
    """Build the Keras model from transformed features to a logit and the reconstruction error, ``[batch, 2]``.

    In training the outputs are the logits of all members and the error, ``[batch, members + 1]``.

    Args:
        settings: ``width`` of the hidden layers, their ``dropout``, ``l2`` and ``remat``, ``members`` of the ensemble,
            ``frequencies`` of the periodic features, ``past_encoder``, and ``merchant_vectors`` (``frozen``, ``tuned`` or
            ``none``).
        features: Shapes and types of the transformed features, by name.
        pretrained: Folder of the merchant embedding, with rows in the order of the transform graph's vocabulary; empty for
            none.
    """
    inputs = {
        name: keras.Input(features[name].shape[1:], dtype=features[name].dtype.name, name=name) for name in INPUTS
    }
    codes = keras.layers.Embedding((len(CATEGORIES) + 1) * VOCABULARY, 6, name="code_embedding")(inputs["codes"])
    parts = [inputs["numeric"], keras.layers.Flatten()(codes)]
    if settings["frequencies"]:
        parts.append(Periodic(settings["frequencies"], name="periodic")(inputs["numeric"]))
    parts += _encode_past(inputs, settings, _merchant_similarity(inputs, settings, pretrained))
    hidden = _flatten_rows(Views(settings["members"], name="views")(keras.layers.Concatenate()(parts)))
    for width in (settings["width"], settings["width"] // 2):
        dense = _dense(width, settings)
        hidden = (Recomputed(dense) if settings["remat"] else dense)(hidden)
        # Even with a rate of 0 the layer draws random numbers, which took half of a step.
        hidden = keras.layers.Dropout(settings["dropout"])(hidden) if settings["dropout"] else hidden
    # The outputs are compared and summed, so they have the precision of the weights even if layers compute in bfloat16.
    variable_dtype = keras.config.dtype_policy().variable_dtype
    logits = Heads(name="heads", dtype=variable_dtype)(
        keras.ops.reshape(hidden, (-1, settings["members"], hidden.shape[-1]))
    )
    anomaly = Anomaly(name="anomaly", dtype=variable_dtype)(inputs["numeric"])
    return keras.Model(inputs, keras.layers.Concatenate(dtype=variable_dtype)([logits, anomaly]), name="fraud")


def _dense(width: int, settings: Mapping[str, Any], **options: Any) -> keras.layers.Dense:
    l2 = keras.regularizers.L2(settings["l2"]) if settings["l2"] else None
    return keras.layers.Dense(width, activation="relu", kernel_regularizer=l2, **options)


def _flatten_rows(values: Any) -> Any:
    """Reshape ``[batch, n, columns]`` to ``[batch * n, columns]``: with three axes a dense layer computes their sizes at every
    call, which costs more than its matrix product if rows are few."""
    return keras.ops.reshape(values, (-1, values.shape[-1]))


def _merchant_similarity(inputs: Mapping[str, Any], settings: Mapping[str, Any], pretrained: str) -> Any:
    """Cosine similarity of this merchant to those of the last purchases, ``[batch, PAST, 1]``; None without an embedding."""
    if not pretrained or settings["merchant_vectors"] == "none":
        return None
    table = WordVectors.load(pretrained).matrix
    vectors = keras.layers.Embedding(
        *table.shape,
        embeddings_initializer=keras.initializers.Constant(table),
        trainable=settings["merchant_vectors"] == "tuned",
        name="merchant_embedding",
    )(inputs["merchants"])
    return Likeness(name="likeness")(vectors) * inputs["past"][:, :, 3:4]


def _encode_past(inputs: Mapping[str, Any], settings: Mapping[str, Any], likeness: Any) -> list[Any]:
    """Encode the last purchases as one vector, ``[batch, n]``; an empty list without an encoder.

    Each step also contains the current amount, so that the network compares amounts instead of learning levels. ``gru`` reads
    the steps in order; ``dense`` applies the same small network to every step and concatenates the results; ``attention``
    queries the steps with the current purchase. ``gru`` was the best on valid for three generator seeds
    (``benchmarks/results/fraud.json``).

    Question: A17
    Answer: A CNN shares weights across space, and an RNN shares them across time. A CNN's unit has a local receptive field
        that grows with depth, and it trains in parallel. An RNN carries a state through a sequence of any length, but step
        by step, and its gradients vanish, so LSTM and GRU add gates. I use CNNs for images and RNNs for ordered
        sequences; attention has replaced many RNNs. Here we measure both against models without them.
    Evidence: tour.evidence.network.losses.encoder_gain
    Proof: tests/tour/evidence/test_losses_and_embeddings.py::test_the_receptive_field_is_what_a_gradient_reaches
    """
    amount = keras.layers.RepeatVector(PAST)(inputs["numeric"][:, :1])
    steps = keras.layers.Concatenate()([inputs["past"], amount, *([] if likeness is None else [likeness])])
    wide, narrow = 32, 16
    match settings["past_encoder"]:
        case "dense":
            steps = _dense(narrow, settings)(_dense(wide, settings)(_flatten_rows(steps)))
            return [keras.ops.reshape(steps, (-1, PAST * narrow))]
        case "gru":
            # Unrolled into PAST steps, as the edge runtime cannot run a loop.
            return [keras.layers.GRU(wide, unroll=True, name="past_vector")(_dense(narrow, settings)(steps))]
        case "attention":
            query = keras.layers.Reshape((1, wide))(keras.layers.Dense(wide)(inputs["numeric"]))
            attended = keras.layers.MultiHeadAttention(2, narrow)(query, _dense(wide, settings)(steps))
            return [keras.layers.Flatten(name="past_vector")(attended)]
    return []


def loss(settings: Mapping[str, Any]) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return the loss, ``[batch]``: cross-entropy of labels ``[batch, 1]`` and logits, plus the reconstruction error of honest
    purchases.

    The outputs are ``[batch, members + 1]``, the error last; the losses of the members are averaged. A fraud has the weight
    ``positive_weight``. ``focal`` multiplies by (1 - p) ** ``focal_gamma``, where p is the probability of the true class
    (Lin et al. 2017), so that easy examples count less. The autoencoder shares no weights with the other layers.

    Question: A16
    Answer: A loss is a differentiable measure of how wrong an output is. I use binary cross-entropy for two classes,
        sparse categorical cross-entropy for several, and squared error for quantities, such as our autoencoder's
        reconstruction. Pass logits, not probabilities, or it can overflow. With few positives, weight them or use a focal
        loss, then recalibrate. The loss is not the business metric: here we select by PR AUC and the costs of errors.
    Evidence: tour.evidence.network.losses.prediction_losses
    Proof: tests/models/fraud/test_model.py::test_focal_loss_equals_its_formula
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
    """Compute ``pr_auc``, the area under the precision-recall curve (average precision).

    Args:
        truth: Labels, ``[rows, 1]``.
        outputs: Logits and reconstruction errors, ``[rows, 2]``, or only scores, ``[rows, 1]``. With errors the result has
            ``anomaly_pr_auc``, the metric of the error as a score; the autoencoder was trained without frauds.
    """
    names = ("pr_auc", "anomaly_pr_auc")
    return {
        name: float(average_precision_score(truth[:, 0], column))
        for name, column in zip(names, outputs.T, strict=False)
    }


def operating_point(settings: Mapping[str, Any], truth: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """Fit calibration and threshold on the validation split, labels ``[rows, 1]`` and outputs ``[rows, 2]``.

    The weighted loss overestimates probabilities; Platt scaling (Platt 1999) of the logit corrects that. With calibrated
    scores the cheapest threshold follows from the costs alone (Elkan 2001): stop a purchase where the expected loss of
    passing it exceeds the cost of a review.
    """
    platt = LogisticRegression(C=1e6).fit(outputs[:, :1], truth[:, 0])
    slope, intercept = float(platt.coef_[0, 0]), float(platt.intercept_[0])
    if slope <= 0:
        # Too few frauds for a fit. A negative slope would reverse the order of the scores, so only the weight is corrected.
        slope, intercept = 1.0, -float(np.log(settings["positive_weight"]))
    threshold = decision_threshold(settings)
    return {"slope": slope, "intercept": intercept, "threshold": threshold}


def answers(outputs: tf.Tensor, point: Mapping[str, float], settings: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    """Compute the outputs of the serving signature, each float32 ``[batch]``.

    ``score`` is the probability of fraud, ``decision`` is 1 to stop, and ``anomaly`` is the squared reconstruction error: the
    distance from honest purchases, which is independent of the fraud labels.
    """
    score = tf.sigmoid(outputs[:, 0] * point["slope"] + point["intercept"])
    return {"score": score, "decision": tf.cast(score >= point["threshold"], tf.float32), "anomaly": outputs[:, 1]}
