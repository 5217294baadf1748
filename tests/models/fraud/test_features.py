"""Look-ups and buckets that LiteRT can run give what tf.Transform's own functions give."""

from typing import Any

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
import tfx  # noqa: F401  replaces a part of tfx-bsl that no longer exists
from support.built_case import pipeline

from models.fraud import features

WORDS = ("red", "green", "green", "blue", "", "red")
SPEC = {
    "word": tf.io.FixedLenFeature([1], tf.string),
    "amount": tf.io.FixedLenFeature([1], tf.float32),
}


def transform_both_ways(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    vocabulary = tft.vocabulary(inputs["word"], top_k=2, vocab_filename="words")
    boundaries = tft.quantiles(inputs["amount"], features.BUCKETS, epsilon=0.01)
    return {
        "code": features._look_up(inputs["word"], vocabulary, "words"),
        "code_with_oov_bucket": tft.compute_and_apply_vocabulary(inputs["word"], top_k=2, num_oov_buckets=1),
        "bucket": features._buckets(inputs["amount"], boundaries),
        "bucket_by_search": tft.bucketize(inputs["amount"], features.BUCKETS),
        "boundaries": tf.tile(boundaries, [tf.shape(inputs["amount"])[0], 1]),
    }


@pytest.fixture(scope="module")
def transformed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Transformed rows of other words and amounts than those that were analyzed, by name."""
    generator = np.random.default_rng(5)
    rows: list[dict[str, Any]] = [
        {"word": [WORDS[n % len(WORDS)]], "amount": [float(value)]}
        for n, value in enumerate(generator.lognormal(3, 1, 400))
    ]
    metadata = tft.DatasetMetadata.from_feature_spec(SPEC)
    folder = tmp_path_factory.mktemp("transform")
    with tft_beam.Context(str(folder / "scratch")), pipeline() as beam_pipeline:
        function = (beam_pipeline | beam.Create(rows), metadata) | tft_beam.AnalyzeDataset(transform_both_ways)
        _ = function | tft_beam.WriteTransformFn(str(folder / "graph"))
    layer = tft.TFTransformOutput(str(folder / "graph")).transform_features_layer()
    amounts = [row["amount"][0] for row in rows] + [float("nan"), float("inf"), -1.0, 0.0]
    words = [*WORDS, "never seen", "Red"]
    outputs = layer(
        {
            "word": tf.constant([[words[n % len(words)]] for n in range(len(amounts))]),
            "amount": tf.constant(amounts, tf.float32)[:, None],
        }
    )
    return {name: value.numpy() for name, value in outputs.items()} | {"word": np.resize(words, len(amounts))}


def test_unknown_rare_and_empty_words_share_the_id_after_the_vocabulary(transformed: dict[str, np.ndarray]) -> None:
    assert transformed["code"].tolist() == transformed["code_with_oov_bucket"].tolist()
    ids = {word: int(code) for word, code in zip(transformed["word"], transformed["code"][:, 0], strict=True)}
    assert sorted((ids["red"], ids["green"])) == [0, 1]
    assert ids["blue"] == ids[""] == ids["never seen"] == ids["Red"] == 2


def test_buckets_count_the_quantiles_up_to_a_value(transformed: dict[str, np.ndarray]) -> None:
    assert transformed["bucket"].tolist() == transformed["bucket_by_search"].tolist()
    assert set(transformed["bucket"][:400, 0]) == set(range(features.BUCKETS))
    assert transformed["bucket"][400:, 0].tolist() == [features.BUCKETS - 1, features.BUCKETS - 1, 0, 0]
    boundary = transformed["boundaries"][0]
    assert len(boundary) == features.BUCKETS - 1 and (np.diff(boundary) > 0).all()
