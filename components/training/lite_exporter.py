"""The model for the edge: several TensorFlow Lite variants, of which only those pass that answer as the model does."""

import json
import tempfile
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

from components.training import one_row, samples
from models.catalog import find
from models.errors import Refused
from models.input import Transform, files
from serving.edge.interpreter import Interpreter

VARIANTS = ("float32", "dynamic", "float16", "int8")
REPRESENTATIVE = 256
CHECKED = 2048
TIMED = 200
ONE_ROW = "one_row.tflite"
SAMPLES = "samples.npz"


class LiteModel(Artifact):
    """A folder with ``<variant>.tflite`` a variant, the chosen one as ``model.tflite``, and the table ``lite.json``.

    ``one_row.tflite`` is the float32 variant for runtimes that take one row and no 64-bit integer; ``samples.npz`` are
    examples to try a model on, see :mod:`components.training.samples`.
    """

    TYPE_NAME = "LiteModel"


@component
def LiteExporter(
    examples: InputArtifact[Examples],
    transform_graph: InputArtifact[TransformGraph],
    model: InputArtifact[Model],
    config: Parameter[str],
    lite_model: OutputArtifact[LiteModel],
) -> None:
    """Converts, compares on the eval split, and chooses the smallest variant within the bounds.

    Question: B3
    Answer: A model format and a small runtime for devices, now called LiteRT: a flat file that is mapped and not parsed,
        one interpreter without TensorFlow, kernels for ARM and x86, delegates for GPU and NPU. Use it where answers are
        needed offline, within milliseconds, on battery, or where data has to stay: phones, microcontrollers, browsers.
        Keep the server where models are large, change daily or need data that only the server has.
    Evidence: tour.evidence.serving.edge_files.variants
    Proof: tests/components/training/test_lite_exporter.py::test_weights_of_fewer_bits_make_smaller_files

    Raises:
        Refused: if not even float32 answers as the SavedModel does, naming the difference, or no variant keeps the metric.
    """
    told = json.loads(config)
    network, gates = find(told["case"]).load("model"), told["settings"]
    source, transform = path_utils.serving_model_path(model.uri), Transform(transform_graph.uri)
    serialized = _records(examples.uri)
    rows = {name: value.numpy() for name, value in transform.parse(serialized).items()}
    inputs = {name: rows[name] for name in network.INPUTS}
    expected = answers(source, inputs)
    folder, table = Path(lite_model.uri), []
    for variant in VARIANTS:
        content = convert(source, variant, inputs)
        (folder / f"{variant}.tflite").write_bytes(content)
        table.append(measured(variant, content, network, rows, expected))
    _choose(folder, table, gates)
    _add_one_row(folder, source, inputs, expected[network.SCORE], network.SCORE, gates)
    samples.write(folder / SAMPLES, serialized, transform.raw, inputs, expected, expected[network.SCORE])


def answers(path: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the SavedModel's ``dense`` signature says of rows ``[rows, ...]``."""
    signature = tf.saved_model.load(path).signatures["dense"]
    given = {name: tf.constant(values) for name, values in inputs.items()}
    return {name: value.numpy() for name, value in signature(**given).items()}


def convert(path: str, variant: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """The ``dense`` signature as a ``.tflite``; ``inputs`` are real rows from which int8 learns its ranges.

    Question: B14
    Answer: TFLiteConverter.from_saved_model with the signature that has no string or table op; then options.
        Optimize.DEFAULT alone stores weights in 8 bits, activations stay float; supported_types float16 halves weights;
        a representative dataset of real rows lets activations be int8 too, which integer hardware needs. Each changes
        answers, so each variant is compared with the SavedModel on held-out rows, and one that loses too much of the
        metric is not eligible. If none passes: quantisation-aware training, whose toolkit takes no Keras 3 model.
    Evidence: tour.evidence.serving.edge_files.conversions
    Proof: tests/components/training/test_lite_exporter.py::test_the_smallest_is_not_chosen_if_it_loses_too_much
    """
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
    interpreter = Interpreter(content)
    return interpreter.answer(inputs), interpreter.latency(inputs, TIMED)


def measured(
    variant: str, content: bytes, network: Any, rows: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """A line of the table: size, latency, largest difference of the score from the SavedModel's, metric and its loss."""
    given, latency = run(content, {name: rows[name] for name in network.INPUTS})
    return {"variant": variant, "bytes": len(content), "latency_us": latency} | _compare(network, rows, given, expected)


def _records(uri: str) -> tf.Tensor:
    """The first serialized examples of the eval split, taken from several shards in turn."""
    shards = tf.data.Dataset.from_tensor_slices(files(uri, "eval"))
    records = shards.interleave(tf.data.TFRecordDataset, cycle_length=4)
    return next(iter(records.batch(CHECKED)))


def _representative(inputs: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    rows = min(REPRESENTATIVE, len(next(iter(inputs.values()))))
    for row in range(rows):
        yield {name: values[row : row + 1] for name, values in inputs.items()}


def _compare(
    network: Any, rows: Mapping[str, Any], answers: Mapping[str, Any], expected: Mapping[str, Any]
) -> dict[str, float]:
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


def judge(table: list[dict[str, Any]], gates: Mapping[str, Any]) -> str:
    """Marks what passed in the table, whose first line is float32, and names the smallest variant of it.

    Raises:
        Refused: if not even float32 answers as the SavedModel does, or no variant keeps the metric.
    """
    exact = table[0]
    _exact(exact["difference"], "float32 TFLite", gates)
    for row in table:
        row["passed"] = row["metric_loss"] <= gates["lite_metric_loss"]
    passed = [row for row in table if row["passed"]]
    if not passed:
        raise Refused(
            "lite",
            f"no variant keeps the metric: float32 loses {exact['metric_loss']:.2g}, "
            f"allowed is {gates['lite_metric_loss']:.2g}.",
        )
    return min(passed, key=lambda row: row["bytes"])["variant"]


def _exact(difference: float, what: str, gates: Mapping[str, Any]) -> None:
    if not difference <= gates["lite_tolerance"]:  # written so that NaN is refused
        raise Refused(
            "lite", f"{what} differs from the SavedModel by {difference:.2g}, allowed is {gates['lite_tolerance']:.2g}."
        )


def _choose(folder: Path, table: list[dict[str, Any]], gates: Mapping[str, Any]) -> None:
    chosen = judge(table, gates)
    (folder / "model.tflite").write_bytes((folder / f"{chosen}.tflite").read_bytes())
    _write(folder, {"chosen": chosen, "variants": table})


def _add_one_row(
    folder: Path,
    source: str,
    inputs: Mapping[str, np.ndarray],
    expected: np.ndarray,
    score: str,
    gates: Mapping[str, Any],
) -> None:
    """Float32 for one row, held to the tolerance, so that a page says what the server says."""
    with tempfile.TemporaryDirectory() as scratch:
        one_row.save(source, scratch)
        content = convert(scratch, "float32", inputs)
    given, latency = run(content, inputs)
    difference = float(np.max(np.abs(given[score] - expected)))
    _exact(difference, "float32 for one row", gates)
    (folder / ONE_ROW).write_bytes(content)
    told = {"bytes": len(content), "latency_us": latency, "difference": difference}
    _write(folder, json.loads((folder / "lite.json").read_text()) | {"one_row": told})


def _write(folder: Path, record: Mapping[str, Any]) -> None:
    (folder / "lite.json").write_text(json.dumps(record, indent=1))
