"""TensorFlow Lite variants of the model; the smallest one that keeps the metric is stored."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from benchmarks.bare.columns import LABEL, Arrays
from models.fraud import model as network

REPRESENTATIVE, CHECKED, TIMED = 256, 2048, 200
VARIANTS = ("float32", "dynamic", "float16", "int8")


def convert_variants(path: Path, rows: Arrays, settings: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Convert the model to four TensorFlow Lite variants; write the smallest that keeps the metric as ``model.tflite``.

    Raises:
        ValueError: if the float32 variant differs from the SavedModel, or no variant keeps the metric.
    """
    inputs, truth = {name: rows[name] for name in network.INPUTS}, rows[LABEL]
    saved = tf.saved_model.load(str(path))
    expected = saved.signatures["dense"](**{n: tf.constant(v) for n, v in inputs.items()})[network.SCORE].numpy()
    exact, variants, contents = network.quality(truth, expected[:, None])["pr_auc"], {}, {}
    for variant in VARIANTS:
        contents[variant] = convert(path, variant, inputs)
        answers, latency = measure_variant(contents[variant], inputs)
        variants[variant] = {
            "bytes": len(contents[variant]),
            "latency_us": latency,
            "difference": float(np.abs(answers - expected).max()),
            "metric_loss": exact - network.quality(truth, answers[:, None])["pr_auc"],
        }
    if not variants["float32"]["difference"] <= settings["lite_tolerance"]:
        raise ValueError(
            f"the float32 TFLite variant differs from the SavedModel by {variants['float32']['difference']:.2g}."
        )
    passed = [name for name in VARIANTS if variants[name]["metric_loss"] <= settings["lite_metric_loss"]]
    if not passed:
        raise ValueError("no TFLite variant keeps the metric within lite_metric_loss.")
    (path / "model.tflite").write_bytes(contents[min(passed, key=lambda name: variants[name]["bytes"])])
    return variants


def convert(path: Path, variant: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """Convert the ``dense`` signature to the bytes of a ``.tflite`` file."""
    converter = tf.lite.TFLiteConverter.from_saved_model(str(path), signature_keys=["dense"])
    if variant != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if variant == "int8":
        rows = min(REPRESENTATIVE, len(next(iter(inputs.values()))))
        samples = [{name: values[row : row + 1] for name, values in inputs.items()} for row in range(rows)]
        converter.representative_dataset = lambda: iter(samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def measure_variant(content: bytes, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, float]:
    """Return the scores of all rows, and the median latency of one row in microseconds."""
    runner = Interpreter(model_content=content, num_threads=1).get_signature_runner("dense")
    answers, row, times = runner(**inputs)[network.SCORE], {n: values[:1] for n, values in inputs.items()}, []
    for _ in range(TIMED):
        started = time.perf_counter()
        runner(**row)
        times.append(time.perf_counter() - started)
    return answers.reshape(len(answers)), float(np.median(times[1:]) * 1e6)
