"""From raw purchase features to what the network reads, as one TensorFlow graph that is exported with the model."""

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

WINDOWS = (1, 7, 30)
AMOUNTS = ("amount", *(f"customer_amount_{w}d" for w in WINDOWS), "distance_km", "seconds_since_last")
COUNTS = tuple(f"{who}_count_{w}d" for who in ("customer", "merchant") for w in WINDOWS)
RISKS = tuple(f"merchant_risk_{w}d" for w in WINDOWS)
CATEGORIES = ("category", "channel", "device")
VOCABULARY = 64
BUCKETS = 10
COMPONENTS = 6
PAST = 8
MERCHANTS = 20_000
DAY = 86_400
# An episode of fraud lasts minutes or hours; habits show in what is older.
BURSTS = (900.0, 3600.0, 21_600.0)
HABIT = BURSTS[-1]
TINY = math.log1p(6.0)
TURNS = (2 * math.pi / DAY, 2 * math.pi / (7 * DAY))  # radians a second, of a day and of a week
# What the columns of the transformed features are, for people; of ``past`` the last axis.
COLUMNS = {
    "numeric": (
        *AMOUNTS,
        *COUNTS,
        *RISKS,
        "amount_to_ticket_30d",
        "amount_to_ticket_7d",
        "sin_day",
        "sin_week",
        "cos_day",
        "cos_week",
        "customer_count_pace",
        "customer_amount_pace",
        "merchant_count_pace",
        "amount_to_mean",
        "amount_to_spread",
        "amount_to_greatest",
        "amount_to_least",
        "past_15min",
        "past_1h",
        "past_6h",
        "past_tiny_1h",
        "past_here",
        "usual_hour",
        "usual_weekday",
    ),
    "codes": (*CATEGORIES, "amount_bucket"),
    "past": ("amount", "age", "same_merchant", "there", "cos_hours_apart", "sin_hours_apart"),
    "merchants": ("merchant", *(f"past_merchant_{step}" for step in range(PAST))),
}

Tensors = dict[str, tf.Tensor]


def preprocessing_fn(inputs: Tensors, custom_config: dict[str, Any] | None = None) -> Tensors:
    """Scales, buckets, looks up and projects; raw features arrive as ``[batch, 1]``, the past as ``[batch, PAST]``.

    Returns:
        ``numeric`` float32 ``[batch, N]`` (z-scores), ``pca`` float32 ``[batch, COMPONENTS]``, ``codes`` int64
        ``[batch, 4]``, ``past`` float32 ``[batch, PAST, 6]``, ``merchants`` int64 ``[batch, 1 + PAST]`` and the label
        ``is_fraud`` float32 ``[batch, 1]``.
    """
    # One stacked tensor needs one analyzer instead of one a column; tracing time falls with their number.
    raw = numeric_columns(inputs)
    numeric = tft.scale_to_z_score(raw, elementwise=True, name="numeric")
    return {
        "numeric": numeric,
        "pca": _pca(raw, numeric),
        "codes": _codes(inputs),
        "past": past_steps(inputs),
        "merchants": _merchants(inputs),
        "is_fraud": tf.cast(inputs["is_fraud"], tf.float32),
    }


def numeric_columns(inputs: Tensors) -> tf.Tensor:
    """Logarithms for what spreads over decades, angles for what repeats by day and week; ``[batch, N]``.

    Columns of one kind are computed side by side: on the few rows of a request an operation costs more than its numbers.
    """
    time = tf.concat([inputs["event_time"] % period for period in (DAY, 7 * DAY)], axis=1)
    angles = tf.cast(time, tf.float32) * TURNS
    tickets = tf.concat([_ticket(inputs, days) for days in (30, 7)], axis=1)
    columns = [
        _log(_side_by_side(inputs, AMOUNTS + COUNTS)),
        _side_by_side(inputs, RISKS),
        _log(inputs["amount"]) - _log(tickets),
        tf.sin(angles),
        tf.cos(angles),
        _paces(inputs),
        _amounts(inputs),
        _rhythm(inputs),
    ]
    return tf.concat(columns, axis=1)


def _side_by_side(inputs: Tensors, names: Sequence[str]) -> tf.Tensor:
    return tf.concat([inputs[name] for name in names], axis=1)


def _log(values: tf.Tensor) -> tf.Tensor:
    return tf.math.log1p(tf.maximum(values, 0.0))


def _ticket(inputs: Tensors, days: int) -> tf.Tensor:
    """What the customer's purchases of the window cost in the mean."""
    return inputs[f"customer_amount_{days}d"] / tf.maximum(inputs[f"customer_count_{days}d"], 1.0)


def _paces(inputs: Tensors) -> tf.Tensor:
    """How the last day compares with a usual one: a ratio, which a network finds less easily than it is computed."""
    day, month = (
        _side_by_side(inputs, [f"{name}_{days}d" for name in ("customer_count", "customer_amount", "merchant_count")])
        for days in (1, 30)
    )
    return _log(day) - _log(month / 30.0)


def _there(inputs: Tensors) -> tf.Tensor:
    """1 where a step of the past holds a purchase, ``[batch, PAST]``."""
    return tf.cast(tf.not_equal(inputs["past_merchant"], ""), tf.float32)


def _amounts(inputs: Tensors) -> tf.Tensor:
    """The amount against those of the last purchases: their mean, spread, greatest and least; 0 without a past."""
    there, past, amount = _there(inputs), _log(inputs["past_amount"]), _log(inputs["amount"])
    some = tf.reduce_max(there, axis=1, keepdims=True)
    mean = _mean(past, there)
    spread = tf.sqrt(_mean(tf.square(past - mean), there))
    greatest = tf.reduce_max(past * there, axis=1, keepdims=True)
    least = tf.reduce_min(tf.where(there > 0, past, past + 99.0), axis=1, keepdims=True)
    compared = [
        some * (amount - mean),
        some * (amount - mean) / (spread + 0.3),
        amount - greatest,
        some * (amount - least),
    ]
    return tf.concat(compared, axis=1)


def _rhythm(inputs: Tensors) -> tf.Tensor:
    """How many of the last purchases are fresh, tiny and here, and whether the hour and the weekday are the usual ones.

    Two times lie close on the clock where the cosine of the angle between them is near 1, and that angle is the age.
    """
    there, age = _there(inputs), inputs["past_age"]
    fresh = [there * tf.cast(age < limit, tf.float32) for limit in BURSTS]
    tiny = fresh[1] * tf.cast(_log(inputs["past_amount"]) < TINY, tf.float32)
    here = tf.cast(tf.equal(inputs["past_merchant"], inputs["merchant_id"]), tf.float32)
    old = there * tf.cast(age > HABIT, tf.float32)
    counts = tf.reduce_sum(tf.stack([*fresh, tiny, here], axis=2), axis=1)
    usual = tf.reduce_sum(tf.cos(age[:, :, None] * TURNS) * old[:, :, None], axis=1)
    return tf.concat([counts, usual / tf.maximum(tf.reduce_sum(old, axis=1, keepdims=True), 1.0)], axis=1)


def _mean(values: tf.Tensor, there: tf.Tensor) -> tf.Tensor:
    """Of the values that are there, ``[batch, 1]``; 0 if none is."""
    return tf.reduce_sum(values * there, axis=1, keepdims=True) / tf.maximum(
        tf.reduce_sum(there, axis=1, keepdims=True), 1.0
    )


def _pca(raw: tf.Tensor, numeric: tf.Tensor) -> tf.Tensor:
    """Projects the z-scores, ``[batch, N]``, on the train split's principal components, ``[batch, COMPONENTS]``.

    ``tft.pca`` of the z-scores would wait for their means and read the data a second time. The components of z-scores are
    the eigenvectors of the correlation matrix, and that follows from the covariance of the raw columns, in one pass.

    Question: A20
    Answer: PCA turns correlated columns into orthogonal directions of falling variance; the first few keep most of it.
        Scale first, or the largest unit wins: these are the eigenvectors of the correlation matrix. tft computes the
        covariance with Beam over the train split only, and it becomes a constant of the transform graph, so evaluation
        and serving project on the same axes. The image case uses tft.pca itself.
    Evidence: tour.evidence.data.transform_graph.components
    Proof: tests/tour/evidence/test_claims.py::test_the_graphs_components_are_those_of_scikit_learn_on_the_train_split
    """
    # A difference of large sums: in float32 its last digits would follow from the order in which Beam adds them up.
    covariance = tft.covariance(tf.cast(raw, tf.float64), dtype=tf.float64, name="covariance")
    deviation = tf.maximum(tf.sqrt(tf.linalg.diag_part(covariance)), 1e-6)
    _, vectors = tf.linalg.eigh(covariance / (deviation[:, None] * deviation[None, :]))
    return tf.matmul(numeric, tf.cast(tf.reverse(vectors, axis=[1])[:, :COMPONENTS], tf.float32))


def _codes(inputs: Tensors) -> tf.Tensor:
    """Vocabulary index a category (what is unknown or rare shares the last), and the amount's quantile bucket."""
    codes = [
        tft.compute_and_apply_vocabulary(inputs[name], top_k=VOCABULARY - 1, num_oov_buckets=1, vocab_filename=name)
        for name in CATEGORIES
    ]
    codes.append(tft.bucketize(inputs["amount"], BUCKETS, name="amount_buckets"))
    # Each column counts from where the one before ends, so that all share one embedding table.
    return tf.concat([code + column * VOCABULARY for column, code in enumerate(codes)], axis=1)


def _merchants(inputs: Tensors) -> tf.Tensor:
    """Index of this merchant and of the last purchases' in one vocabulary; the unknown and the absent share the last."""
    vocabulary = tft.vocabulary(inputs["merchant_id"], top_k=MERCHANTS, vocab_filename="merchant_id")
    names = tf.concat([inputs["merchant_id"], inputs["past_merchant"]], axis=1)
    return tft.apply_vocabulary(names, vocabulary, num_oov_buckets=1)


def past_steps(inputs: Tensors) -> tf.Tensor:
    """The last purchases, oldest first: log amount, log age in seconds, at this merchant, 1 where there was one, and how
    far apart on the clock, as cosine and sine; ``[batch, PAST, 6]``."""
    there, age = _there(inputs), inputs["past_age"]
    same = tf.cast(tf.equal(inputs["past_merchant"], inputs["merchant_id"]), tf.float32)
    # Bursts show in seconds and habits in weeks: the logarithm keeps both apart.
    steps = [_log(inputs["past_amount"]) / 4.0, _log(age) / 8.0, same, there]
    hour = 2 * math.pi * age / DAY
    return tf.stack([*steps, there * tf.cos(hour), there * tf.sin(hour)], axis=2)
