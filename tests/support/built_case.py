"""A use case from raw data to an export, stage by stage without TFX's metadata, shared by several tests."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
import tfx  # noqa: F401  replaces a part of tfx-bsl that TFDV imports and that no longer exists
from apache_beam.options.pipeline_options import PipelineOptions
from filelock import FileLock
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.public.tfxio import TFExampleRecord

from components.training.span_example_gen import Write
from models import spans
from models.input import Transform, batches, list_shards, load
from models.network import build as build_network
from models.network import predict
from models.rows import specs
from models.saved_model import export
from models.training import loop
from models.training.seeds import seed_everything
from models.use_case import UseCase
from pipeline.local.local_runtime import local_runtime

# Small data and short training by case; other cases are small by default.
SMALL: dict[str, dict[str, str]] = {
    "fraud": {
        "rows": "8000",
        "days": "32",
        "warmup_days": "3",
        "valid_days": "4",
        "eval_days": "4",
        "epochs": "6",
        "width": "24",
        "batch_size": "128",
        "learning_rate": "0.01",
    },
    "image": {"epochs": "1", "filters": "4", "batch_size": "256"},
}
REQUEST_ROWS = 24  # rows of eval that a test sends to every signature
FACTS, WEIGHTS = "facts.json", "fitted.weights.h5"


@dataclass
class BuiltCase:
    """Outputs of the stages.

    Attributes:
        case: The use case.
        settings: All its settings, flat, including those that the data determines.
        schema: The curated schema, parsed.
        examples: Folder with ``Split-*`` folders, as the artifact has it.
        graph: Folder of the transform graph.
        export: The SavedModel.
        fitted: Result of the training.
        held: The eval split, serialized.
        rows: The eval split, transformed, in the same order.
        point: The operating point.
    """

    case: UseCase
    settings: dict[str, Any]
    schema: schema_pb2.Schema
    examples: Path
    graph: Path
    export: Path
    fitted: loop.TrainingResult
    held: list[bytes]
    rows: dict[str, np.ndarray]
    point: dict[str, float]


_BUILT: dict[str, BuiltCase] = {}


def get_built_case(case: UseCase, factory: pytest.TempPathFactory) -> BuiltCase:
    """Return the case, built once for all test processes."""
    if case.name not in _BUILT:
        base = factory.getbasetemp()
        folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"built-{case.name}"
        with FileLock(f"{folder}.lock"):
            _BUILT[case.name] = load_built(case, folder) if (folder / FACTS).exists() else save_built(case, folder)
    return _BUILT[case.name]


def save_built(case: UseCase, folder: Path) -> BuiltCase:
    """Build the case and save what another process needs to load it."""
    result = build(case, folder)
    result.fitted.model.save_weights(folder / WEIGHTS)
    np.savez(folder / "rows.npz", **result.rows)
    fit = {
        field.name: getattr(result.fitted, field.name) for field in fields(loop.TrainingResult) if field.name != "model"
    }
    (folder / FACTS).write_text(json.dumps({"settings": result.settings, "point": result.point, "fit": fit}))
    return result


def load_built(case: UseCase, folder: Path) -> BuiltCase:
    """Load a case that another process has built."""
    facts = json.loads((folder / FACTS).read_text())
    examples, graph, model = (folder / name for name in ("examples", "graph", "export"))
    with np.load(folder / "rows.npz") as stored:
        rows = dict(stored)
    network = build_network(case.load("model"), facts["settings"], specs(rows))
    network.load_weights(folder / WEIGHTS)
    schema = text_format.Parse(case.schema_path.read_text(), schema_pb2.Schema())
    held = list(tf.data.TFRecordDataset(list_shards(str(examples), "eval")).as_numpy_iterator())
    fit = loop.TrainingResult(network, **facts["fit"])
    return BuiltCase(case, facts["settings"], schema, examples, graph, model, fit, held, rows, facts["point"])


def build(case: UseCase, folder: Path, **changes: str) -> BuiltCase:
    """Create examples, a transform graph, a trained network and an export from raw data."""
    settings = case.configure(SMALL.get(case.name, {}) | changes)
    data, network = case.load("data"), case.load("model")
    window = spans.select_window(data.prepare(None, folder / "data", settings["data"]), -1, -1)
    settings["data"] |= data.check(window, settings["data"]).settings
    flat = {name: value for group in settings.values() for name, value in group.items()}
    schema = text_format.Parse(case.schema_path.read_text(), schema_pb2.Schema())
    examples, graph, model = folder / "examples", folder / "graph", folder / "export"
    with pipeline() as beam_pipeline:
        _ = data.examples(beam_pipeline, window, settings["data"]) | beam.ParDo(Write(str(examples)))
    analyze(case, settings["data"], schema, examples, graph)
    seed_everything(flat)
    transform, keep = Transform(str(graph)), (*network.INPUTS, network.LABEL)
    valid = load(list_shards(str(examples), "valid"), transform, keep)
    held = list(tf.data.TFRecordDataset(list_shards(str(examples), "eval")).as_numpy_iterator())
    rows = {name: value.numpy() for name, value in transform.parse(tf.constant(held)).items() if name in keep}
    count, train = batches(list_shards(str(examples), "train"), transform, keep, flat["batch_size"], 1)
    fitted = loop.fit(network, flat, loop.TrainingSplits(transform.features, count, train, valid))
    point = network.operating_point(flat, valid[network.LABEL], predict(fitted.model, valid))
    export.save(str(model), network, fitted.model, transform, point, flat)
    return BuiltCase(case, flat, schema, examples, graph, model, fitted, held, rows, point)


def pipeline() -> beam.Pipeline:
    """Create a Beam pipeline with the options of the local runtime."""
    return beam.Pipeline(options=PipelineOptions(list(local_runtime(Path("/nowhere")).beam_args)))


def analyze(case: UseCase, settings: Mapping[str, Any], schema: schema_pb2.Schema, examples: Path, graph: Path) -> None:
    """Analyze the train split and write the graph and both metadata folders, like the Transform component."""
    config = {"case": case.name, "settings": dict(settings)}
    source = TFExampleRecord(str(examples / "Split-train" / "*"), schema=schema)
    preprocessing_fn = case.load("features").preprocessing_fn
    with tempfile.TemporaryDirectory() as scratch, tft_beam.Context(scratch), pipeline() as beam_pipeline:
        raw = (beam_pipeline | source.BeamSource(), source.TensorAdapterConfig())
        function = raw | tft_beam.AnalyzeDataset(lambda inputs: preprocessing_fn(inputs, config))
        _ = function | tft_beam.WriteTransformFn(str(graph))
        where = str(graph / tft.TFTransformOutput.RAW_METADATA_DIR)
        _ = tft.DatasetMetadata(schema) | tft_beam.WriteMetadata(where, beam_pipeline)


def read_records(small_run: BuiltCase, split: str) -> list[bytes]:
    """The split's serialized examples, shard by shard."""
    return list(tf.data.TFRecordDataset(list_shards(str(small_run.examples), split)).as_numpy_iterator())


@cache
def load_export(path: str) -> tf.Module:
    return tf.saved_model.load(path)


def build_requests(small_run: BuiltCase) -> dict[str, dict[str, np.ndarray]]:
    """The first rows of eval for each signature, parsed without TensorFlow; a missing value is the type's default."""
    serialized = small_run.held[:REQUEST_ROWS]
    parsed = [tf.train.Example.FromString(data).features.feature for data in serialized]
    raw = {}
    for name, spec in load_export(str(small_run.export)).signatures["raw"].structured_input_signature[1].items():
        kind, width = (
            ("bytes_list", "float_list", "int64_list")[(tf.string, tf.float32, tf.int64).index(spec.dtype)],
            spec.shape[1],
        )
        empty = [b"" if kind == "bytes_list" else 0] * width
        raw[name] = np.array(
            [list(getattr(features[name], kind).value) or empty for features in parsed], spec.dtype.as_numpy_dtype
        )
    inputs = small_run.case.load("model").INPUTS
    return {
        "serving_default": {"examples": np.array(serialized, object)},
        "raw": raw,
        "dense": {name: small_run.rows[name][:REQUEST_ROWS] for name in inputs},
    }


def compute_answers(small_run: BuiltCase, whole: bool = True) -> dict[str, dict[str, np.ndarray]]:
    """Answers of the loaded export for each signature, or with ``whole`` those of ``dense`` for the whole eval split."""
    signatures, requested = load_export(str(small_run.export)).signatures, build_requests(small_run)
    if whole:
        requested = {"dense": {name: small_run.rows[name] for name in requested["dense"]}}
    return {
        name: {
            key: value.numpy()
            for key, value in signatures[name](**{k: tf.constant(v) for k, v in inputs.items()}).items()
        }
        for name, inputs in requested.items()
    }
