"""Transform raw purchase features into the network's inputs, as one TensorFlow graph that is exported with the model."""

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
# A fraud episode lasts minutes or hours; older purchases show the customer's habits.
BURSTS = (900.0, 3600.0, 21_600.0)
HABIT = BURSTS[-1]
TINY = math.log1p(6.0)
TURNS = (2 * math.pi / DAY, 2 * math.pi / (7 * DAY))  # radians per second, for a day and for a week
# Names of the columns of the transformed features, for display; for ``past``, of its last axis.
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
    """Scale, bucketize, look up and project raw features of shape ``[batch, 1]``, and the past of shape ``[batch, PAST]``.

    Returns:
        ``numeric`` float32 ``[batch, N]`` (z-scores), ``pca`` float32 ``[batch, COMPONENTS]``, ``codes`` int64
        ``[batch, 4]``, ``past`` float32 ``[batch, PAST, 6]``, ``merchants`` int64 ``[batch, 1 + PAST]`` and the label
        ``is_fraud`` float32 ``[batch, 1]``.
    """
    # One stacked tensor needs one analyzer instead of one for each column, which shortens tracing.
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
    """Return logarithms of values that span decades, and sine and cosine of the time of day and week; ``[batch, N]``.

    Columns of one kind are computed together, as the overhead of an operation dominates on the few rows of a request.
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
    """Mean amount of the customer's purchases in the window."""
    return inputs[f"customer_amount_{days}d"] / tf.maximum(inputs[f"customer_count_{days}d"], 1.0)


def _paces(inputs: Tensors) -> tf.Tensor:
    """Log ratio of the last day to an average day of the last 30; a network does not easily learn a ratio by itself."""
    day, month = (
        _side_by_side(inputs, [f"{name}_{days}d" for name in ("customer_count", "customer_amount", "merchant_count")])
        for days in (1, 30)
    )
    return _log(day) - _log(month / 30.0)


def _present(inputs: Tensors) -> tf.Tensor:
    """Mask of the past: 1 where a step holds a purchase, ``[batch, PAST]``."""
    return tf.cast(tf.not_equal(inputs["past_merchant"], ""), tf.float32)


def _amounts(inputs: Tensors) -> tf.Tensor:
    """Compare the amount with the mean, spread, maximum and minimum of the last purchases; 0 without a past."""
    present, past, amount = _present(inputs), _log(inputs["past_amount"]), _log(inputs["amount"])
    has_past = tf.reduce_max(present, axis=1, keepdims=True)
    mean = _mean(past, present)
    spread = tf.sqrt(_mean(tf.square(past - mean), present))
    greatest = tf.reduce_max(past * present, axis=1, keepdims=True)
    least = tf.reduce_min(tf.where(present > 0, past, past + 99.0), axis=1, keepdims=True)
    columns = [
        has_past * (amount - mean),
        has_past * (amount - mean) / (spread + 0.3),
        amount - greatest,
        has_past * (amount - least),
    ]
    return tf.concat(columns, axis=1)


def _rhythm(inputs: Tensors) -> tf.Tensor:
    """Count recent, tiny and same-merchant purchases of the past, and compare hour and weekday with the customer's habit.

    Two times are close on the clock where the cosine of the angle between them is near 1; that angle follows from the age.
    """
    present, age = _present(inputs), inputs["past_age"]
    fresh = [present * tf.cast(age < limit, tf.float32) for limit in BURSTS]
    tiny = fresh[1] * tf.cast(_log(inputs["past_amount"]) < TINY, tf.float32)
    same_merchant = tf.cast(tf.equal(inputs["past_merchant"], inputs["merchant_id"]), tf.float32)
    old = present * tf.cast(age > HABIT, tf.float32)
    counts = tf.reduce_sum(tf.stack([*fresh, tiny, same_merchant], axis=2), axis=1)
    habit = tf.reduce_sum(tf.cos(age[:, :, None] * TURNS) * old[:, :, None], axis=1)
    return tf.concat([counts, habit / tf.maximum(tf.reduce_sum(old, axis=1, keepdims=True), 1.0)], axis=1)


def _mean(values: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """Mean of the values where ``present`` is 1, ``[batch, 1]``; 0 if there is none."""
    return tf.reduce_sum(values * present, axis=1, keepdims=True) / tf.maximum(
        tf.reduce_sum(present, axis=1, keepdims=True), 1.0
    )


def _pca(raw: tf.Tensor, numeric: tf.Tensor) -> tf.Tensor:
    """Project the z-scores, ``[batch, N]``, onto the principal components of the train split, ``[batch, COMPONENTS]``.

    ``tft.pca`` of the z-scores needs their means first, so it would read the data a second time. The components of z-scores
    are the eigenvectors of the correlation matrix, which follows from the covariance of the raw columns in one pass.

    Question: A20
    Answer: PCA turns correlated columns into orthogonal directions of decreasing variance, and the first few keep most of
        it. Scale the columns first, or the one with the largest unit dominates; with scaled columns the components are
        the eigenvectors of the correlation matrix. Here tft computes the covariance with Beam on the train split only.
        The projection is a constant of the transform graph, so evaluation and serving use the same axes.
    Evidence: tour.evidence.data.transform_graph.principal_components
    Proof: tests/tour/evidence/test_claims.py::test_the_graphs_components_are_those_of_scikit_learn_on_the_train_split
    """
    # Covariance is a difference of large sums: in float32 its last digits would depend on the order of Beam's additions.
    covariance = tft.covariance(tf.cast(raw, tf.float64), dtype=tf.float64, name="covariance")
    deviation = tf.maximum(tf.sqrt(tf.linalg.diag_part(covariance)), 1e-6)
    _, vectors = tf.linalg.eigh(covariance / (deviation[:, None] * deviation[None, :]))
    return tf.matmul(numeric, tf.cast(tf.reverse(vectors, axis=[1])[:, :COMPONENTS], tf.float32))


def _codes(inputs: Tensors) -> tf.Tensor:
    """Vocabulary index of each category (unknown and rare values share the last), and the quantile bucket of the amount."""
    codes = []
    for name in CATEGORIES:
        vocabulary = tft.vocabulary(inputs[name], top_k=VOCABULARY - 1, vocab_filename=name)
        codes.append(_look_up(inputs[name], vocabulary, name))
    codes.append(
        _buckets(inputs["amount"], tft.quantiles(inputs["amount"], BUCKETS, epsilon=0.01, name="amount_buckets"))
    )
    # Each column is offset by the size of those before it, so that all columns share one embedding table.
    return tf.concat([code + column * VOCABULARY for column, code in enumerate(codes)], axis=1)


def _merchants(inputs: Tensors) -> tf.Tensor:
    """Vocabulary index of this merchant and of the merchants of the past; unknown and absent ones share the last index."""
    vocabulary = tft.vocabulary(inputs["merchant_id"], top_k=MERCHANTS, vocab_filename="merchant_id")
    # Looked up before they are concatenated, as LiteRT concatenates numbers only.
    return tf.concat(
        [_look_up(inputs[name], vocabulary, "merchant_id") for name in ("merchant_id", "past_merchant")], axis=1
    )


def _look_up(words: tf.Tensor, vocabulary: tf.Tensor, name: str) -> tf.Tensor:
    """Return the index of each word in the vocabulary of that file name, and the vocabulary's size for other words.

    That is what ``num_oov_buckets=1`` gives, too, but it hashes the words, for which LiteRT has no kernel.
    """
    return tft.apply_vocabulary(words, vocabulary, default_value=tft.experimental.get_vocabulary_size_by_name(name))


def _buckets(values: tf.Tensor, boundaries: tf.Tensor) -> tf.Tensor:
    """Count the boundaries, ``[1, n]``, up to each value, ``[batch, 1]``; all of them for a value that is not a number.

    ``tft.apply_buckets`` gives the same, but it searches, for which LiteRT has no kernel.
    """
    # Not a count of ``values >= boundaries``, which is false for a value that is not a number.
    return tf.reduce_sum(1 - tf.cast(values < boundaries, tf.int64), axis=1, keepdims=True)


def past_steps(inputs: Tensors) -> tf.Tensor:
    """Return the last purchases, oldest first, ``[batch, PAST, 6]``: log amount, log age in seconds, whether at the same
    merchant, whether present, and cosine and sine of the difference in the time of day."""
    present, age = _present(inputs), inputs["past_age"]
    same = tf.cast(tf.equal(inputs["past_merchant"], inputs["merchant_id"]), tf.float32)
    # Bursts are seconds apart and habits weeks apart: the logarithm resolves both.
    steps = [_log(inputs["past_amount"]) / 4.0, _log(age) / 8.0, same, present]
    hour = 2 * math.pi * age / DAY
    return tf.stack([*steps, present * tf.cos(hour), present * tf.sin(hour)], axis=2)
