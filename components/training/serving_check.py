"""The check before a push: load the export as TensorFlow Serving does, in a process without our code, and compare answers."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Examples, ExampleStatistics, InfraBlessing, Model, TransformGraph
from tfx.utils import path_utils

from components.training.edge.lite_exporter import ONE_ROW, SAMPLES, LiteModel
from components.training.edge.raw_signature import parse_raw
from components.training.reference_profiler import NormalFiles
from models.errors import GateError
from models.input import Transform, list_shards
from models.saved_model.files import EXTRA, REFERENCE_PROFILE
from serving import session_load  # imported as a module, so that the code digest of this component covers it
from serving.edge import raw_model

REQUESTS = 32
PROFILE = "profile.pb"
WARMUP = 8
TOLERANCE = 1e-5
SECONDS = 180


@component
def ServingCheck(
    examples: InputArtifact[Examples],
    transform_graph: InputArtifact[TransformGraph],
    model: InputArtifact[Model],
    lite_model: InputArtifact[LiteModel],
    statistics: InputArtifact[ExampleStatistics],
    normal: InputArtifact[NormalFiles],
    blessing: OutputArtifact[InfraBlessing],
) -> None:
    """Send requests made from real examples to every signature, compare, and add warm-up requests to the export.

    The blessing's folder holds the model to be pushed, with ``model.tflite`` next to the SavedModel, and
    ``model_raw.tflite`` if LiteExporter has passed one. Its
    ``assets.extra`` has the warm-up requests, ``profile.pb`` (statistics of the eval split), ``normal`` (the reference
    profile), and what the edge page needs: ``one_row.tflite`` and ``samples.npz``.

    Raises:
        GateError: if the export does not load or an answer differs, naming which.
    """
    source = path_utils.serving_model_path(model.uri)
    serialized = _read_examples(examples.uri)
    requests = Path(blessing.uri, "requests.npz")
    Path(blessing.uri).mkdir(parents=True, exist_ok=True)
    expected = _run_signatures(source, Transform(transform_graph.uri), serialized, requests)
    answers = _load_in_subprocess(source, requests)
    for name in sorted(expected):
        if not np.allclose(expected[name], answers[name], atol=TOLERANCE):
            worst = float(np.max(np.abs(expected[name] - answers[name])))
            raise GateError(
                "serving",
                f"{name} differs by {worst:.2g} when loaded as the server does; at most {TOLERANCE} is allowed.",
            )
    stamped = Path(path_utils.stamped_model_path(blessing.uri))
    _write_stamped(Path(source), Path(lite_model.uri), stamped, serialized, requests)
    shutil.copy(Path(statistics.uri, "Split-eval", "FeatureStats.pb"), stamped / EXTRA / PROFILE)
    shutil.copytree(normal.uri, stamped / EXTRA / REFERENCE_PROFILE, dirs_exist_ok=True)
    blessing.set_int_custom_property("blessed", 1)
    blessing.set_int_custom_property("has_model", 1)
    Path(blessing.uri, "INFRA_BLESSED").touch()


def _read_examples(uri: str) -> np.ndarray:
    records = tf.data.TFRecordDataset(list_shards(uri, "eval")).take(REQUESTS)
    return np.array(list(records.as_numpy_iterator()), dtype=object)


def _run_signatures(source: str, transform: Transform, serialized: np.ndarray, requests: Path) -> dict[str, np.ndarray]:
    """Run the model in this process: arrays by ``signature/output``; write the inputs of each signature to ``requests``."""
    signatures = tf.saved_model.load(source).signatures
    missing = [name for name in ("serving_default", "raw", "dense") if name not in signatures]
    if missing:
        raise GateError("serving", f"the export has no signature '{missing[0]}'.")
    dense = transform.parse(tf.constant(serialized))
    inputs = {
        "serving_default": {"examples": serialized},
        "raw": parse_raw(signatures["raw"].structured_input_signature[1], serialized),
        "dense": {name: dense[name].numpy() for name in signatures["dense"].structured_input_signature[1]},
    }
    expected = {}
    for signature, values in inputs.items():
        for output, value in signatures[signature](**{k: tf.constant(v) for k, v in values.items()}).items():
            expected[f"{signature}/{output}"] = value.numpy()
    flat = {f"{signature}/{name}": value for signature, values in inputs.items() for name, value in values.items()}
    np.savez(requests, **flat)
    return expected


def _load_in_subprocess(source: str, requests: Path) -> dict[str, np.ndarray]:
    answers = requests.with_name("answers.npz")
    command = [sys.executable, "-m", session_load.__name__, source, str(requests), str(answers)]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise GateError(
            "serving", f"the export, loaded as the server loads it, did not answer within {SECONDS} s."
        ) from None
    if process.returncode:
        raise GateError("serving", f"the export does not load as the server loads it: {_find_cause(process)}")
    with np.load(answers, allow_pickle=True) as loaded:
        return dict(loaded)


def _find_cause(process: subprocess.CompletedProcess[str]) -> str:
    """The first error of a traceback, which causes the others."""
    errors = re.findall(r"^(?:\w+\.)*(\w*(?:Error|Exception|Interrupt)\b.*)", process.stderr, re.MULTILINE)
    return errors[0] if errors else f"the process ended with status {process.returncode}"


def _write_stamped(source: Path, lite: Path, target: Path, serialized: np.ndarray, requests: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)
    extra = target / EXTRA
    extra.mkdir(exist_ok=True)
    shutil.copy(lite / "model.tflite", target / "model.tflite")
    if (lite / raw_model.FILE).exists():
        shutil.copy(lite / raw_model.FILE, target / raw_model.FILE)
    for name in ("lite.json", ONE_ROW, SAMPLES):
        shutil.copy(lite / name, extra / name)
    _write_warmup(extra / "tf_serving_warmup_requests", serialized, requests)


def _write_warmup(path: Path, serialized: np.ndarray, requests: Path) -> None:
    """Write requests of one row and of several; a server runs the first of each signature at every batch size."""
    with np.load(requests, allow_pickle=True) as stored:
        raw = {name.removeprefix("raw/"): stored[name][:1] for name in stored.files if name.startswith("raw/")}
    warmup = [("serving_default", {"examples": serialized[:size]}) for size in (1, WARMUP)] + [("raw", raw)]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in warmup:
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = signature
            for name, values in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(values, shape=values.shape))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
