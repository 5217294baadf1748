"""Small models whose outputs NumPy can compute, as `.tflite` and as pushed versions, for tests of edge inference."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.training.edge import one_row
from serving.browser import site
from support.programs import needs as needs

TABLE = np.random.default_rng(3).normal(size=(50, 4)).astype(np.float32)
CLASSES = ("flat", "upright")


class Mixed(tf.Module):
    """A model with integer and float inputs and three outputs, like the fraud network."""

    def __init__(self) -> None:
        self.table = tf.Variable(TABLE)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 3], tf.int64, name="ids"),
            tf.TensorSpec([None, 2, 4], tf.float32, name="past"),
        ]
    )
    def dense(self, ids: tf.Tensor, past: tf.Tensor) -> dict[str, tf.Tensor]:
        total = tf.reduce_sum(tf.gather(self.table, ids), axis=1) + tf.reduce_sum(past, axis=1)
        score = tf.sigmoid(tf.reduce_sum(total, axis=1))
        return {"score": score, "decision": tf.cast(score >= 0.5, tf.float32), "total": total}


class Lines(tf.Module):
    """A classifier: whether a picture is brighter in its middle rows or in its middle columns."""

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1], tf.float32, name="pixels")])
    def dense(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        rows, columns = (tf.reduce_sum(part, axis=[1, 2]) for part in (pixels[:, 3:5, :, 0], pixels[:, :, 3:5, 0]))
        return {"probabilities": tf.nn.softmax(tf.stack([rows, columns], axis=1))}


def draw_mixed_rows(rows: int, seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Draw inputs for :class:`Mixed` and compute its outputs with NumPy."""
    rng = np.random.default_rng(seed)
    inputs = {"ids": rng.integers(0, len(TABLE), (rows, 3)), "past": rng.normal(size=(rows, 2, 4)).astype(np.float32)}
    total = TABLE[inputs["ids"]].sum(axis=1) + inputs["past"].sum(axis=1)
    score = 1 / (1 + np.exp(-total.sum(axis=1)))
    return inputs, {"score": score, "decision": (score >= 0.5).astype(np.float32), "total": total}


def draw_line_rows(rows: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Draw inputs for :class:`Lines` and compute its outputs with NumPy."""
    pixels = np.random.default_rng(1).random((rows, 8, 8, 1)).astype(np.float32)
    logits = np.stack([pixels[:, 3:5].sum(axis=(1, 2, 3)), pixels[:, :, 3:5].sum(axis=(1, 2, 3))], axis=1)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return {"pixels": pixels}, {"probabilities": exponentials / exponentials.sum(axis=1, keepdims=True)}


def export_module(module: tf.Module, folder: Path) -> Path:
    """Export the module as a SavedModel with the signature ``dense``."""
    tf.saved_model.save(module, str(folder), signatures={"dense": module.dense})
    return folder


def convert_to_lite(export: Path) -> bytes:
    """Convert the signature ``dense`` of a SavedModel to ``.tflite``."""
    return tf.lite.TFLiteConverter.from_saved_model(str(export), signature_keys=["dense"]).convert()


def build_version(module: tf.Module, folder: Path, rows: tuple, classes: tuple[str, ...] = ()) -> Path:
    """Write the files of a pushed version that the browser page reads, with these rows as samples."""
    extra = folder / "1" / "assets.extra"
    extra.mkdir(parents=True)
    one_row.save(str(export_module(module, folder / "export")), str(folder / "narrow"))
    (extra / site.MODEL).write_bytes(convert_to_lite(folder / "narrow"))
    arrays = {
        f"{part}/{name}": values
        for part, side in zip(("input", "answer"), rows, strict=True)
        for name, values in side.items()
    }
    arrays["raw/amount"] = np.arange(len(next(iter(arrays.values())))).reshape(-1, 1) + 0.25
    arrays["raw/name"] = np.array([["first"], ["second"], ["third"]])
    np.savez(extra / site.SAMPLES, **arrays)
    facts = {"operating_point": {"threshold": 0.5}, "settings": {"classes": list(classes)}}
    (extra / "model.json").write_text(json.dumps(facts))
    return folder / "1"


def needs_litert_js() -> None:
    """Skip, or fail under CI, without the packages of `make browser`; see :func:`needs`."""
    if not (site.PACKAGES / "core").is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("LiteRT.js is not installed: `make browser`.")


def load_thousand_rows(context) -> dict[str, np.ndarray]:
    """Return 1,000 transformed rows of a run, from other splits, too, if eval has fewer."""
    network = context.case.load("model")
    splits = [context.rows(split, network.INPUTS, 1000) for split in ("eval", "valid", "train")]
    return {name: np.concatenate([rows[name] for rows in splits])[:1000] for name in network.INPUTS}
