"""Export TensorFlow Lite variants of a model and select the smallest whose answers stay close to the SavedModel's."""

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

from components.training.edge import one_row, raw_signature, samples
from models.catalog import find_use_case
from models.errors import GateError
from models.input import Transform, list_shards
from serving.edge import raw_model
from serving.edge.interpreter import Interpreter

VARIANTS = ("float32", "dynamic", "float16", "int8")
REPRESENTATIVE = 256
CHECKED_ROWS = 2048
TIMED_CALLS = 200
ONE_ROW = "one_row.tflite"
SAMPLES = "samples.npz"


class LiteModel(Artifact):
    """A folder with ``<variant>.tflite`` for each variant, the chosen one as ``model.tflite``, and the table ``lite.json``.

    ``one_row.tflite`` is the float32 variant for runtimes that take one row and no 64-bit integers; ``samples.npz`` has
    sample rows, see :mod:`components.training.edge.samples`. ``model_raw.tflite`` takes raw rows; it is missing if LiteRT
    lacks a kernel for the preprocessing, see :mod:`components.training.edge.raw_signature`.
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
    """Convert the model to each variant, compare on the eval split, and select the smallest variant within the bounds.

    Question: B3
    Answer: TensorFlow Lite, now LiteRT, is a model format and a small runtime. The model is a flat file that is
        memory-mapped; an interpreter without TensorFlow runs it, with GPU and NPU delegates. Use it on devices, when
        answers must come offline or data may not leave, and in servers, where a small call costs little. The limit is its
        set of operations. Here every run exports and checks four variants, and a file for raw rows that our server uses.
    Evidence: tour.evidence.serving.lite_variants.variants
    Proof: tests/components/training/edge/test_lite_exporter.py::test_weights_of_fewer_bits_make_smaller_files

    Raises:
        GateError: if float32 or the raw signature differs from the SavedModel by more than the tolerance, or if no variant
            keeps the metric.
    """
    options = json.loads(config)
    network, gates = find_use_case(options["case"]).load("model"), options["settings"]
    source, transform = path_utils.serving_model_path(model.uri), Transform(transform_graph.uri)
    serialized = _read_records(examples.uri)
    rows = {name: value.numpy() for name, value in transform.parse(serialized).items()}
    inputs = {name: rows[name] for name in network.INPUTS}
    expected = run_saved_model(source, inputs)
    folder, table = Path(lite_model.uri), []
    for variant in VARIANTS:
        content = convert(source, variant, inputs)
        (folder / f"{variant}.tflite").write_bytes(content)
        table.append(measure_lite_variant(variant, content, network, rows, expected))
    _write_chosen(folder, table, gates)
    _add_one_row(folder, source, inputs, expected[network.SCORE], network.SCORE, gates)
    _add_raw(folder, source, serialized, network.SCORE, gates)
    samples.write(folder / SAMPLES, serialized, transform.raw, inputs, expected, expected[network.SCORE])


def run_saved_model(path: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Answers of the SavedModel's ``dense`` signature for rows ``[rows, ...]``."""
    signature = tf.saved_model.load(path).signatures["dense"]
    given = {name: tf.constant(values) for name, values in inputs.items()}
    return {name: value.numpy() for name, value in signature(**given).items()}


def convert(path: str, variant: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """Convert the ``dense`` signature to ``.tflite``; ``inputs`` are the representative rows that calibrate int8 ranges.

    Question: B14
    Answer: Use TFLiteConverter.from_saved_model on a signature whose ops LiteRT has. It has look-up tables, but not string
        hashing, binary search or image decoding, so write the preprocessing without them. Then quantise: Optimize.DEFAULT
        stores weights in 8 bits, float16 halves them, a representative dataset makes activations int8 too. Each changes
        the answers, so each variant is compared with the SavedModel on held-out rows and rejected if it loses too much.
    Evidence: tour.evidence.serving.lite_variants.conversions
    Proof: tests/components/training/edge/test_lite_exporter.py::test_the_smallest_is_not_chosen_if_it_loses_too_much
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(path, signature_keys=["dense"])
    if variant != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if variant == "int8":
        converter.representative_dataset = lambda: _representative_rows(inputs)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def run_variant(content: bytes, inputs: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], float]:
    """Run a variant: its answers for all rows, and the median latency of one row in microseconds on one thread."""
    interpreter = Interpreter(content)
    return interpreter.answer(inputs), interpreter.latency(inputs, TIMED_CALLS)


def measure_lite_variant(
    variant: str, content: bytes, network: Any, rows: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Measure a variant: size, latency, largest difference of its scores from the SavedModel's, metric and metric loss."""
    outputs, latency = run_variant(content, {name: rows[name] for name in network.INPUTS})
    return {"variant": variant, "bytes": len(content), "latency_us": latency} | _compare(
        network, rows, outputs, expected
    )


def _read_records(uri: str) -> tf.Tensor:
    """Read the first serialized examples of the eval split, interleaved over several shards."""
    shards = tf.data.Dataset.from_tensor_slices(list_shards(uri, "eval"))
    records = shards.interleave(tf.data.TFRecordDataset, cycle_length=4)
    return next(iter(records.batch(CHECKED_ROWS)))


def _representative_rows(inputs: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
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
        "metric": network.quality(truth, _as_columns(answers[score]))[network.MONITOR],
        "metric_loss": network.quality(truth, _as_columns(expected[score]))[network.MONITOR]
        - network.quality(truth, _as_columns(answers[score]))[network.MONITOR],
    }


def _as_columns(scores: np.ndarray) -> np.ndarray:
    """Scores as ``[rows, outputs]``; both metrics depend only on the order, so probabilities serve as well as logits."""
    return scores.reshape(len(scores), -1)


def select_variant(table: list[dict[str, Any]], gates: Mapping[str, Any]) -> str:
    """Mark the variants of the table that pass, and return the name of the smallest; the first row is float32.

    Raises:
        GateError: if float32 differs from the SavedModel by more than the tolerance, or if no variant keeps the metric.
    """
    float32 = table[0]
    _check_tolerance(float32["difference"], "float32 TFLite", gates)
    for row in table:
        row["passed"] = row["metric_loss"] <= gates["lite_metric_loss"]
    passed = [row for row in table if row["passed"]]
    if not passed:
        raise GateError(
            "lite",
            f"no variant keeps the metric: float32 loses {float32['metric_loss']:.2g}, "
            f"and at most {gates['lite_metric_loss']:.2g} is allowed (lite_metric_loss).",
        )
    return min(passed, key=lambda row: row["bytes"])["variant"]


def _check_tolerance(difference: float, variant: str, gates: Mapping[str, Any]) -> None:
    if not difference <= gates["lite_tolerance"]:  # written so that NaN is refused
        raise GateError(
            "lite",
            f"{variant} differs from the SavedModel by {difference:.2g}, "
            f"and at most {gates['lite_tolerance']:.2g} is allowed (lite_tolerance).",
        )


def _write_chosen(folder: Path, table: list[dict[str, Any]], gates: Mapping[str, Any]) -> None:
    chosen = select_variant(table, gates)
    (folder / "model.tflite").write_bytes((folder / f"{chosen}.tflite").read_bytes())
    _write_table(folder, {"chosen": chosen, "variants": table})


def _add_one_row(
    folder: Path,
    source: str,
    inputs: Mapping[str, np.ndarray],
    expected: np.ndarray,
    score: str,
    gates: Mapping[str, Any],
) -> None:
    """Write float32 for one row; it must stay within the tolerance, so that the edge page agrees with the server."""
    with tempfile.TemporaryDirectory() as scratch:
        one_row.save(source, scratch)
        content = convert(scratch, "float32", inputs)
    outputs, latency = run_variant(content, inputs)
    difference = float(np.max(np.abs(outputs[score] - expected)))
    _check_tolerance(difference, "float32 for one row", gates)
    (folder / ONE_ROW).write_bytes(content)
    facts = {"bytes": len(content), "latency_us": latency, "difference": difference}
    _write_table(folder, _read_table(folder) | {"one_row": facts})


def _add_raw(folder: Path, source: str, serialized: tf.Tensor, score: str, gates: Mapping[str, Any]) -> None:
    """Write the raw signature, or record why it cannot be converted; it must stay within the tolerance.

    It is compared on the rows as they are, with all their words missing, and with words that are in no vocabulary.
    """
    loaded = tf.saved_model.load(source)
    signature = loaded.signatures[raw_model.SIGNATURE]
    try:
        content = raw_signature.convert_raw(source)
    except raw_signature.MissingKernelError as error:
        _write_table(folder, _read_table(folder) | {"raw": {"missing": str(error)}})
        return
    rows = raw_signature.add_unseen_words(raw_signature.parse_raw(signature.structured_input_signature[1], serialized))
    expected = signature(**{name: tf.constant(values) for name, values in rows.items()})[score].numpy()
    interpreter = Interpreter(content, signature=raw_model.SIGNATURE)
    difference = float(np.max(np.abs(interpreter.answer(rows)[score] - expected)))
    _check_tolerance(difference, "the raw signature in TFLite", gates)
    measured = {"difference": difference, "latency_us": interpreter.latency(rows, TIMED_CALLS)}
    (folder / raw_model.FILE).write_bytes(content)
    _write_table(folder, _read_table(folder) | {"raw": raw_model.make_record(content, measured)})


def _read_table(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "lite.json").read_text())


def _write_table(folder: Path, record: Mapping[str, Any]) -> None:
    (folder / "lite.json").write_text(json.dumps(record, indent=1))
