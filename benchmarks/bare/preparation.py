"""Transformation of raw features to the inputs of the network."""

import numpy as np
import polars as pl
import tensorflow as tf

from benchmarks.bare.columns import LABEL, PASTS, Arrays, Tensors
from models.fraud.features import (
    AMOUNTS,
    BUCKETS,
    CATEGORIES,
    COMPONENTS,
    COUNTS,
    MERCHANTS,
    RISKS,
    VOCABULARY,
    numeric_columns,
    past_steps,
)


class Preparation(tf.Module):
    """Transforms raw features to the inputs of the network in plain TensorFlow; its constants are fitted on train."""

    def __init__(self, train: pl.DataFrame, merchants: list[str]):
        super().__init__()
        self.names = np.array([*merchants, ""], object)  # by code; -1, the last, is no merchant
        numeric = numeric_columns(_to_tensors(train, self.names)).numpy().astype(float)
        spread = numeric.std(axis=0)
        self.mean, self.std = numeric.mean(axis=0, dtype=float), np.where(spread == 0, 1.0, spread)
        order = np.linalg.eigh(np.cov((numeric - self.mean) / self.std, rowvar=False))[1][:, ::-1]
        self.components = order[:, :COMPONENTS].astype(np.float32)
        self.tables = [_build_vocabulary(train[name]) for name in CATEGORIES]
        self.merchants = _build_vocabulary(train["merchant_id"], MERCHANTS + 1)
        self.edges = np.quantile(train["amount"].to_numpy(), np.linspace(0, 1, BUCKETS + 1)[1:-1]).astype(np.float32)

    def __call__(self, raw: Tensors) -> Tensors:
        """Return the inputs of the network ``[batch, ...]`` and the principal components."""
        numeric = (numeric_columns(raw) - self.mean.astype(np.float32)) / self.std.astype(np.float32)
        codes = [table.lookup(raw[name]) for name, table in zip(CATEGORIES, self.tables, strict=True)]
        codes.append(tf.cast(tf.searchsorted(self.edges, raw["amount"][:, 0], side="right")[:, None], tf.int64))
        codes = tf.concat([code + column * VOCABULARY for column, code in enumerate(codes)], axis=1)
        merchants = self.merchants.lookup(tf.concat([raw["merchant_id"], raw["past_merchant"]], axis=1))
        return {
            "numeric": numeric,
            "pca": tf.matmul(numeric, self.components),
            "codes": codes,
            "past": past_steps(raw),
            "merchants": merchants,
        }

    def arrays(self, frame: pl.DataFrame) -> Arrays:
        """Transform a whole split in memory; its label is ``[rows, 1]``."""
        features = {name: values.numpy() for name, values in self(_to_tensors(frame, self.names)).items()}
        return features | {LABEL: frame[LABEL].to_numpy().astype(np.float32)[:, None]}


def _to_tensors(frame: pl.DataFrame, names: np.ndarray) -> Tensors:
    """Return the columns as tensors ``[rows, n]``; codes of past merchants become names."""
    floats = {name: frame[name].to_numpy().astype(np.float32) for name in (*AMOUNTS, *COUNTS, *RISKS)}
    words = {name: frame[name].fill_null("").to_numpy() for name in CATEGORIES}
    scalars = {
        **floats,
        **words,
        "event_time": frame["event_time"].to_numpy(),
        "merchant_id": frame["merchant_id"].to_numpy(),
    }
    past = {name: tf.constant(frame[name].to_numpy()) for name in PASTS[:2]}
    past["past_merchant"] = tf.constant(names[frame["past_merchant"].to_numpy()])
    return {name: tf.constant(values)[:, None] for name, values in scalars.items()} | past


def _build_vocabulary(column: pl.Series, size: int = VOCABULARY) -> tf.lookup.StaticHashTable:
    """Number the most frequent values; all others share the next number."""
    top = column.drop_nulls().value_counts(sort=True).head(size - 1)[column.name].to_list()
    pairs = tf.lookup.KeyValueTensorInitializer(top, np.arange(len(top), dtype=np.int64))
    return tf.lookup.StaticHashTable(pairs, len(top))
