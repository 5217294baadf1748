"""Monitored columns: equal from log records and from a table, with nulls, classes and pixels."""

import io

import numpy as np
import polars as pl
import pytest
from PIL import Image
from support.drift_case import WATCHED, encode_record, generate_day

from serving.drift.profiles.watched_columns import WatchedColumns
from serving.gateway.log.tf_example import encode_example


def test_log_records_give_the_columns_of_the_table() -> None:
    rows = generate_day(0, rows=50)
    frame, scores = WATCHED.records([encode_record(rows, n) for n in range(50)])
    expected, _ = WATCHED.frame(rows, rows["score"])
    assert frame.columns == expected.columns == ["amount", "channel", "usual", "score", "predicted"]
    np.testing.assert_allclose(frame["amount"], np.float32(rows["amount"]))
    assert frame["channel"].to_list() == list(rows["channel"]) and scores.shape == (50, 1)


def test_missing_features_are_null_and_bytes_are_text() -> None:
    watched = WatchedColumns(("a", "b"), (), "score")
    first = encode_example({"a": 1.0, "output/score": 0.7})
    second = encode_example({"b": "x", "output/score": 0.2})
    frame, _ = watched.records([first, second])
    assert frame["a"].to_list() == [1.0, None] and frame["b"].to_list() == [None, "x"]
    assert frame["predicted"].to_list() == ["positive", "negative"]


def test_classes_have_confidence_entropy_and_predicted_name() -> None:
    watched = WatchedColumns(("a",), (), "probabilities", classes=("cat", "dog"))
    scores = np.array([[0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])
    frame, outputs = watched.frame({"a": [1, 2, 3]}, scores)
    assert frame["predicted"].to_list() == ["cat", "cat", "dog"]
    assert frame["entropy"].to_list() == pytest.approx([0.325083, np.log(2), 0.0], abs=1e-6)
    assert watched.confidence(outputs).tolist() == [0.9, 0.5, 1.0]
    assert watched.right(outputs, [b"cat", "dog", "dog"]) == [1.0, 0.0, 1.0]


def test_outcome_of_a_single_score_is_the_label() -> None:
    assert WATCHED.right(np.array([[0.9], [0.1]]), [0, 1]) == [0.0, 1.0]


def test_image_has_pixel_statistics_and_given_features_take_precedence() -> None:
    def png(pixels: np.ndarray) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        return stream.getvalue()

    flat, rough = np.full((8, 8), 100, np.uint8), np.tile(np.array([0, 255], np.uint8), (8, 4))
    watched = WatchedColumns(("brightness",), (), "probabilities", picture="image", classes=("a", "b"))
    frame, _ = watched.frame({"brightness": [0.1, 0.2], "image": [png(flat), png(rough)]}, np.full((2, 2), 0.5))
    assert frame["brightness"].to_list() == [0.1, 0.2] and frame["contrast"].to_list() == pytest.approx([0.0, 0.5])
    assert frame["roughness"][1] > 100 * frame["roughness"][0]
    assert isinstance(frame, pl.DataFrame) and watched.raw == ("brightness", "image")
