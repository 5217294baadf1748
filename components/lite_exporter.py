"""The model for the edge: several TensorFlow Lite variants, of which only those pass that answer as the model does."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import Examples, Model, TransformGraph
from tfx.utils import path_utils

from models.catalog import find
from models.errors import Refused
from models.input import Transform, files, load

VARIANTS = ("float32", "dynamic", "float16", "int8")
REPRESENTATIVE = 256
CHECKED = 2048
TIMED = 200


class LiteModel(Artifact):
    """A folder with ``<variant>.tflite`` a variant, the chosen one as ``model.tflite``, and the table ``lite.json``."""

    TYPE_NAME = "LiteModel"


@component
def LiteExporter(
    examples: InputArtifact[Examples],
    transform_graph: InputArtifact[TransformGraph],
    model: InputArtifact[Model],
    config: Parameter[str],
    lite_model: OutputArtifact[LiteModel],
):
    """Converts, compares on the eval split, and chooses the smallest variant within the bounds.

    Raises:
        Refused: if not even float32 answers as the SavedModel does, naming the difference, or no variant keeps the metric.
    """
    told = json.loads(config)
    network, gates = find(told["case"]).load("model"), told["settings"]
    transform = Transform(transform_graph.uri)
    keep = (*network.INPUTS, network.LABEL)
    rows = load(files(examples.uri, "eval"), transform, keep)
    rows = {name: values[:CHECKED] for name, values in rows.items()}
    saved = tf.saved_model.load(path_utils.serving_model_path(model.uri))
    signature = saved.signatures["dense"]
    inputs = {name: rows[name] for name in network.INPUTS}
    expected = {name: value.numpy() for name, value in signature(**_tensors(inputs)).items()}
    folder, table = Path(lite_model.uri), []
    for variant in VARIANTS:
        content = convert(path_utils.serving_model_path(model.uri), variant, inputs)
        (folder / f"{variant}.tflite").write_bytes(content)
        answers, latency = run(content, inputs)
        table.append({"variant": variant, "bytes": len(content), "latency_us": latency}
                     | _compare(network, rows, answers, expected))  # fmt: skip
    _choose(folder, table, gates)


def convert(path: str, variant: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """The ``dense`` signature as a ``.tflite``; ``inputs`` are real rows from which int8 learns its ranges."""
    converter = tf.lite.TFLiteConverter.from_saved_model(path, signature_keys=["dense"])
    if variant != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if variant == "int8":
        converter.representative_dataset = lambda: _representative(inputs)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def run(content: bytes, inputs: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], float]:
    """Answers for all rows, and the median latency of one row in microseconds, one thread."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    runner = interpreter.get_signature_runner("dense")
    answers = runner(**inputs)
    one = {name: values[:1] for name, values in inputs.items()}
    times = []
    for _ in range(TIMED):
        started = time.perf_counter()
        runner(**one)
        times.append(time.perf_counter() - started)
    return answers, float(np.median(times[1:]) * 1e6)


def _representative(inputs: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    rows = min(REPRESENTATIVE, len(next(iter(inputs.values()))))
    for row in range(rows):
        yield {name: values[row : row + 1] for name, values in inputs.items()}


def _compare(network: Any, rows: Mapping, answers: Mapping, expected: Mapping) -> dict[str, float]:
    score = network.SCORE
    truth = rows[network.LABEL]
    return {
        "difference": float(np.max(np.abs(answers[score] - expected[score]))),
        "metric": network.quality(truth, _column(answers[score]))[network.MONITOR],
        "metric_loss": network.quality(truth, _column(expected[score]))[network.MONITOR]
        - network.quality(truth, _column(answers[score]))[network.MONITOR],
    }


def _column(scores: np.ndarray) -> np.ndarray:
    """Scores as ``[rows, outputs]``: both metrics depend on order only, so probabilities do as well as logits."""
    return scores.reshape(len(scores), -1)


def _choose(folder: Path, table: list[dict[str, Any]], gates: Mapping[str, Any]) -> None:
    exact = table[0]
    if not exact["difference"] <= gates["lite_tolerance"]:  # written so that NaN is refused
        raise Refused("lite", f"float32 TFLite differs from the SavedModel by {exact['difference']:.2g}, "
                              f"allowed is {gates['lite_tolerance']:.2g}.")  # fmt: skip
    for row in table:
        row["passed"] = row["metric_loss"] <= gates["lite_metric_loss"]
    passed = [row for row in table if row["passed"]]
    if not passed:
        raise Refused("lite", f"no variant keeps the metric: float32 loses {exact['metric_loss']:.2g}, "
                              f"allowed is {gates['lite_metric_loss']:.2g}.")  # fmt: skip
    chosen = min(passed, key=lambda row: row["bytes"])
    (folder / "model.tflite").write_bytes((folder / f"{chosen['variant']}.tflite").read_bytes())
    (folder / "lite.json").write_text(json.dumps({"chosen": chosen["variant"], "variants": table}, indent=1))


def _tensors(inputs: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(values) for name, values in inputs.items()}
