"""Small models of which NumPy knows every answer, as `.tflite` and as pushed versions, and what the edge's tests need."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.training import one_row
from serving.browser import site
from support.programs import needs as needs

TABLE = np.random.default_rng(3).normal(size=(50, 4)).astype(np.float32)
CLASSES = ("flat", "upright")


class Mixed(tf.Module):
    """Integers and numbers in, three outputs out, as the fraud network has."""

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
    """Whether a picture is brighter in its middle rows or in its middle columns."""

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1], tf.float32, name="pixels")])
    def dense(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        rows, columns = (tf.reduce_sum(part, axis=[1, 2]) for part in (pixels[:, 3:5, :, 0], pixels[:, :, 3:5, 0]))
        return {"probabilities": tf.nn.softmax(tf.stack([rows, columns], axis=1))}


def mixed(rows: int, seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs for :class:`Mixed` and NumPy's answers."""
    draw = np.random.default_rng(seed)
    given = {"ids": draw.integers(0, len(TABLE), (rows, 3)), "past": draw.normal(size=(rows, 2, 4)).astype(np.float32)}
    total = TABLE[given["ids"]].sum(axis=1) + given["past"].sum(axis=1)
    score = 1 / (1 + np.exp(-total.sum(axis=1)))
    return given, {"score": score, "decision": (score >= 0.5).astype(np.float32), "total": total}


def lines(rows: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs for :class:`Lines` and NumPy's answers."""
    pixels = np.random.default_rng(1).random((rows, 8, 8, 1)).astype(np.float32)
    logits = np.stack([pixels[:, 3:5].sum(axis=(1, 2, 3)), pixels[:, :, 3:5].sum(axis=(1, 2, 3))], axis=1)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return {"pixels": pixels}, {"probabilities": shares / shares.sum(axis=1, keepdims=True)}


def exported(module: tf.Module, folder: Path) -> Path:
    """The module as a SavedModel with the signature ``dense``."""
    tf.saved_model.save(module, str(folder), signatures={"dense": module.dense})
    return folder


def lite(export: Path) -> bytes:
    """A SavedModel's ``dense`` as a ``.tflite``."""
    return tf.lite.TFLiteConverter.from_saved_model(str(export), signature_keys=["dense"]).convert()


def version(module: tf.Module, folder: Path, rows: tuple, classes: tuple[str, ...] = ()) -> Path:
    """A pushed version's folder as far as the page reads it, with these rows as samples."""
    extra = folder / "1" / "assets.extra"
    extra.mkdir(parents=True)
    one_row.save(str(exported(module, folder / "export")), str(folder / "narrow"))
    (extra / site.MODEL).write_bytes(lite(folder / "narrow"))
    arrays = {
        f"{part}/{name}": values
        for part, side in zip(("input", "answer"), rows, strict=True)
        for name, values in side.items()
    }
    arrays["raw/amount"] = np.arange(len(next(iter(arrays.values())))).reshape(-1, 1) + 0.25
    arrays["raw/name"] = np.array([["first"], ["second"], ["third"]])
    np.savez(extra / site.SAMPLES, **arrays)
    told = {"operating_point": {"threshold": 0.5}, "settings": {"classes": ",".join(classes)}}
    (extra / "model.json").write_text(json.dumps(told))
    return folder / "1"


def needs_litert_js() -> None:
    """As :func:`needs`, for what `make browser` installs."""
    if not (site.PACKAGES / "core").is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("LiteRT.js is not installed: `make browser`.")


def thousand(context) -> dict[str, np.ndarray]:
    """A thousand transformed rows of a run, of other splits too where eval has fewer."""
    network = context.case.load("model")
    splits = [context.rows(split, network.INPUTS, 1000) for split in ("eval", "valid", "train")]
    return {name: np.concatenate([rows[name] for rows in splits])[:1000] for name in network.INPUTS}
