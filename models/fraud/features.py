"""From raw purchase features to what the network reads, as one TensorFlow graph that is exported with the model."""

import math
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
DAY = 86_400
# What the columns of the transformed features are, for people; of ``past`` the last axis.
COLUMNS = {
    "numeric": (*AMOUNTS, *COUNTS, *RISKS, "amount_to_usual", "sin_day", "cos_day", "sin_week", "cos_week"),
    "codes": (*CATEGORIES, "amount_bucket"),
    "past": ("amount", "age", "same_merchant", "there"),
}

Tensors = dict[str, tf.Tensor]


def preprocessing_fn(inputs: Tensors, custom_config: dict[str, Any] | None = None) -> Tensors:
    """Scales, buckets, looks up and projects; raw features arrive as ``[batch, 1]``, the past as ``[batch, PAST]``.

    Returns:
        ``numeric`` float32 ``[batch, N]`` (z-scores), ``pca`` float32 ``[batch, COMPONENTS]``, ``codes`` int64
        ``[batch, 4]``, ``past`` float32 ``[batch, PAST, 4]`` and the label ``is_fraud`` float32 ``[batch, 1]``.
    """
    # One stacked tensor needs one analyzer instead of one a column; tracing time falls with their number.
    raw = _numeric(inputs)
    numeric = tft.scale_to_z_score(raw, elementwise=True, name="numeric")
    return {
        "numeric": numeric,
        "pca": _pca(raw, numeric),
        "codes": _codes(inputs),
        "past": _past(inputs),
        "is_fraud": tf.cast(inputs["is_fraud"], tf.float32),
    }


def _numeric(inputs: Tensors) -> tf.Tensor:
    """Logarithms for what spreads over decades, angles for what repeats by day and week; ``[batch, N]``."""
    usual = inputs["customer_amount_30d"] / tf.maximum(inputs["customer_count_30d"], 1.0)
    day = 2 * math.pi * tf.cast(inputs["event_time"] % DAY, tf.float32) / DAY
    week = 2 * math.pi * tf.cast(inputs["event_time"] % (7 * DAY), tf.float32) / (7 * DAY)
    columns = [tf.math.log1p(tf.maximum(inputs[name], 0.0)) for name in AMOUNTS + COUNTS]
    columns += [inputs[name] for name in RISKS]
    columns += [tf.math.log((tf.maximum(inputs["amount"], 0.0) + 1.0) / (usual + 1.0))]
    columns += [tf.sin(day), tf.cos(day), tf.sin(week), tf.cos(week)]
    return tf.concat(columns, axis=1)


def _pca(raw: tf.Tensor, numeric: tf.Tensor) -> tf.Tensor:
    """Projects the z-scores, ``[batch, N]``, on the train split's principal components, ``[batch, COMPONENTS]``.

    ``tft.pca`` of the z-scores would wait for their means and read the data a second time. The components of z-scores are
    the eigenvectors of the correlation matrix, and that follows from the covariance of the raw columns, in one pass.

    Question: A20
    Answer: PCA turns correlated columns into orthogonal directions of falling variance; the first few keep most of it.
        Scale first, or the largest unit wins: these are the eigenvectors of the correlation matrix. tft computes the
        covariance with Beam over the train split only, and it becomes a constant of the transform graph, so evaluation
        and serving project on the same axes. The image case uses tft.pca itself.
    Evidence: tour.evidence.transform.components
    Proof: tests/test_evidence.py::test_the_graphs_components_are_those_of_scikit_learn_on_the_train_split
    """
    covariance = tft.covariance(raw, dtype=tf.float32, name="covariance")
    deviation = tf.maximum(tf.sqrt(tf.linalg.diag_part(covariance)), 1e-6)
    _, vectors = tf.linalg.eigh(covariance / (deviation[:, None] * deviation[None, :]))
    return tf.matmul(numeric, tf.reverse(vectors, axis=[1])[:, :COMPONENTS])


def _codes(inputs: Tensors) -> tf.Tensor:
    """Vocabulary index a category (what is unknown or rare shares the last), and the amount's quantile bucket."""
    codes = [
        tft.compute_and_apply_vocabulary(inputs[name], top_k=VOCABULARY - 1, num_oov_buckets=1, vocab_filename=name)
        for name in CATEGORIES
    ]
    codes.append(tft.bucketize(inputs["amount"], BUCKETS, name="amount_buckets"))
    # Each column counts from where the one before ends, so that all share one embedding table.
    return tf.concat([code + column * VOCABULARY for column, code in enumerate(codes)], axis=1)


def _past(inputs: Tensors) -> tf.Tensor:
    """The last purchases, oldest first: log amount, log age in seconds, at this merchant, and 1 where there was one."""
    there = tf.cast(tf.not_equal(inputs["past_merchant"], ""), tf.float32)
    same = tf.cast(tf.equal(inputs["past_merchant"], inputs["merchant_id"]), tf.float32)
    amount = tf.math.log1p(tf.maximum(inputs["past_amount"], 0.0)) / 4.0
    # Bursts show in seconds and habits in weeks: the logarithm keeps both apart.
    age = tf.math.log1p(tf.maximum(inputs["past_age"], 0.0)) / 8.0
    return tf.stack([amount, age, same, there], axis=2)
