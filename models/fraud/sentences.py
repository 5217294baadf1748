"""Sentences for word2vec: the merchants that a card visits, in order of time."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from models.input import list_shards

VOCABULARY = "merchant_id"  # vocabulary of the same words in the transform graph
BATCH = 8192
FEATURES = {
    "customer_id": tf.io.FixedLenFeature([], tf.string),
    "merchant_id": tf.io.FixedLenFeature([], tf.string),
    "event_time": tf.io.FixedLenFeature([], tf.int64),
}


def sentences(examples: str, settings: Mapping[str, Any]) -> list[list[str]]:
    """Return the merchants of each customer's purchases in the train split, in order of time; labels are not used.

    Args:
        examples: Folder of the examples, with ``Split-*`` folders.
        settings: Not used.
    """
    records = tf.data.TFRecordDataset(list_shards(examples, "train")).batch(BATCH)
    parts = [tf.io.parse_example(batch, FEATURES) for batch in records]
    customer, merchant, time = (np.concatenate([part[name].numpy() for part in parts]) for name in FEATURES)
    order = np.lexsort((merchant, time, customer))
    ends = np.flatnonzero(customer[order][1:] != customer[order][:-1]) + 1
    return [[word.decode() for word in sentence] for sentence in np.split(merchant[order], ends)]
