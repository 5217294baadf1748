"""The check before a push: an export that a server cannot load or that answers differently is refused."""

import json
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from support.built_case import BuiltCase, get_built_case
from support.tiny_case.case import CASE
from tensorflow_serving.apis import prediction_log_pb2
from tfx.components.util import model_utils
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.training import serving_check
from components.training.edge.lite_exporter import LiteModel
from components.training.reference_profiler import NormalFiles
from components.training.serving_check import WARMUP, ServingCheck
from models.errors import GateError
from models.input import list_shards
from serving import session_load

pytestmark = pytest.mark.system

SPECS = {
    name: tf.TensorSpec([None, 1], kind, name=name)
    for name, kind in (("key", tf.string), ("x", tf.float32), ("y", tf.float32))
}
SIGNATURES = ("serving_default", "raw", "dense")
EXAMPLES = tf.TensorSpec([None], tf.string, name="examples")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BuiltCase:
    return get_built_case(CASE, tmp_path_factory)


@pytest.fixture
def check(tiny: BuiltCase, tmp_path: Path) -> Callable[[Path], standard_artifacts.InfraBlessing]:
    """A function that runs the component's executor on an export and returns the blessing."""

    def do(export: Path) -> standard_artifacts.InfraBlessing:
        model, examples, lite = standard_artifacts.Model(), standard_artifacts.Examples(), LiteModel()
        blessing = standard_artifacts.InfraBlessing()
        model.uri, examples.uri, lite.uri = str(tmp_path / "model"), str(tiny.examples), str(tmp_path / "lite")
        blessing.uri = str(tmp_path / "blessing")
        Path(model.uri).mkdir()
        Path(model.uri, "Format-Serving").symlink_to(export)
        Path(lite.uri).mkdir()
        Path(lite.uri, "model.tflite").write_text("lite")
        Path(lite.uri, "lite.json").write_text('{"chosen": "int8"}')
        Path(lite.uri, "one_row.tflite").write_text("one row")
        Path(lite.uri, "model_raw.tflite").write_text("raw")
        Path(lite.uri, "samples.npz").write_text("samples")
        graph = standard_artifacts.TransformGraph()
        graph.uri = str(tiny.graph)
        statistics = standard_artifacts.ExampleStatistics()
        statistics.uri = str(tmp_path / "statistics")
        Path(statistics.uri, "Split-eval").mkdir(parents=True)
        Path(statistics.uri, "Split-eval", "FeatureStats.pb").write_bytes(b"normal")
        inputs = {"model": [model], "examples": [examples], "transform_graph": [graph], "lite_model": [lite]}
        inputs["statistics"] = [statistics]
        normal = NormalFiles()
        normal.uri = str(tmp_path / "normal")
        Path(normal.uri).mkdir(exist_ok=True)
        Path(normal.uri, "normal.json").write_text("what is usual")
        inputs["normal"] = [normal]
        ServingCheck.EXECUTOR_SPEC.executor_class().Do(inputs, {"blessing": [blessing]}, {})
        return blessing

    return do


@pytest.fixture
def refused(check: Callable, tmp_path: Path) -> Callable[[Path], str]:
    """A function that runs the check on an export that must be refused, and returns the reason."""

    def do(export: Path) -> str:
        with pytest.raises(GateError) as caught:
            check(export)
        assert caught.value.gate == "serving"
        assert not (tmp_path / "blessing" / "INFRA_BLESSED").exists()
        assert not (tmp_path / "blessing" / "stamped_model").exists()
        return str(caught.value)

    return do


@pytest.fixture
def loaded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the loading program in this process, still in its own graph and session.

    The test of a good export starts it in a subprocess, as the check does.
    """

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess:
        assert command[1:3] == ["-m", session_load.__name__]
        monkeypatch.setattr(sys, "argv", command[2:])
        try:
            session_load.main()
        except Exception:
            return subprocess.CompletedProcess(command, 1, "", traceback.format_exc())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)


def save_model(
    folder: Path,
    module: tf.Module,
    score: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    names: tuple[str, ...] = SIGNATURES,
) -> Path:
    """Save a SavedModel with the signatures that the check needs, which all return ``score(x, y)``."""

    @tf.function(input_signature=[SPECS])
    def raw(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"probabilities": score(inputs["x"], inputs["y"])}

    @tf.function(input_signature=[EXAMPLES])
    def examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {name: tf.io.FixedLenFeature([1], feature.dtype) for name, feature in SPECS.items()}
        return raw(tf.io.parse_example(examples, spec))

    @tf.function(input_signature=[{"scaled": tf.TensorSpec([None, 2], tf.float32, name="scaled")}])
    def dense(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"probabilities": score(inputs["scaled"][:, :1], inputs["scaled"][:, 1:])}

    signatures = {"serving_default": examples, "raw": raw, "dense": dense}
    tf.saved_model.save(module, str(folder), signatures={name: signatures[name] for name in names})
    return folder


def test_a_good_export_is_blessed_with_the_model_that_will_be_pushed(
    tiny: BuiltCase, check: Callable, tmp_path: Path
) -> None:
    blessing = check(tiny.export)
    assert model_utils.is_infra_validated(blessing)
    assert blessing.get_int_custom_property("has_model") == 1
    stamped = Path(path_utils.stamped_model_path(blessing.uri))
    for path in (path for path in tiny.export.rglob("*") if path.is_file()):
        assert (stamped / path.relative_to(tiny.export)).read_bytes() == path.read_bytes()
    assert (stamped / "model.tflite").read_text() == "lite"
    assert (stamped / "model_raw.tflite").read_text() == "raw"
    assert (stamped / "assets.extra" / "profile.pb").read_bytes() == b"normal"
    assert (stamped / "assets.extra" / "normal" / "normal.json").read_text() == "what is usual"
    assert json.loads((stamped / "assets.extra" / "lite.json").read_text()) == {"chosen": "int8"}
    assert (stamped / "assets.extra" / "one_row.tflite").read_text() == "one row"
    assert (stamped / "assets.extra" / "samples.npz").read_text() == "samples"
    # The warm-up requests, read as a server reads them.
    serving = tf.saved_model.load(str(stamped)).signatures["serving_default"]
    records = tf.data.TFRecordDataset(str(stamped / "assets.extra" / "tf_serving_warmup_requests"))
    logs = [prediction_log_pb2.PredictionLog.FromString(data) for data in records.as_numpy_iterator()]
    requests = [log.predict_log.request for log in logs]
    assert [log.WhichOneof("log_type") for log in logs] == ["predict_log"] * 3
    assert [request.model_spec.signature_name for request in requests] == ["serving_default", "serving_default", "raw"]
    serialized = list(tf.data.TFRecordDataset(list_shards(str(tiny.examples), "eval")).as_numpy_iterator())
    point = tf.train.Example.FromString(serialized[0]).features.feature
    for name in ("x", "y"):
        assert tf.make_ndarray(requests[2].inputs[name]).tolist() == [list(point[name].float_list.value)]
    for request, size in zip(requests[:2], (1, WARMUP), strict=True):
        sent = tf.make_ndarray(request.inputs["examples"])
        assert sent.tolist() == serialized[:size]
        # Expected answers come from the Keras model, with features computed without the transform graph.
        rows = {name: values[:size] for name, values in _compute_dense(tiny, serialized).items()}
        expected = tf.nn.softmax(tiny.fitted.model(rows, training=False)).numpy()
        assert np.allclose(serving(examples=tf.constant(sent))["probabilities"].numpy(), expected, atol=1e-5)


def _compute_dense(tiny: BuiltCase, serialized_rows: list[bytes]) -> dict[str, np.ndarray]:
    """The z-scores by NumPy, from mean and standard deviation of the train split."""

    def points(serialized: list[bytes]) -> np.ndarray:
        features = [tf.train.Example.FromString(data).features.feature for data in serialized]
        return np.array([[f["x"].float_list.value[0], f["y"].float_list.value[0]] for f in features])

    train = points(list(tf.data.TFRecordDataset(list_shards(str(tiny.examples), "train")).as_numpy_iterator()))
    return {"scaled": ((points(serialized_rows) - train.mean(axis=0)) / train.std(axis=0)).astype(np.float32)}


@pytest.mark.parametrize("absent", SIGNATURES)
def test_export_without_a_signature_is_refused(absent: str, refused: Callable, tmp_path: Path) -> None:
    names = tuple(name for name in SIGNATURES if name != absent)
    path = save_model(tmp_path / "plain", tf.Module(), lambda x, y: x + y, names)
    assert refused(path) == f"the export has no signature '{absent}'."


@pytest.mark.usefixtures("loaded_here")
def test_an_export_that_only_python_can_load_is_refused(tiny: BuiltCase, refused: Callable, tmp_path: Path) -> None:
    """A session-based loader does not find the variables of a Keras 3 model saved by ``tf.saved_model.save``."""
    model = tiny.fitted.model

    def score(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(model({"scaled": tf.concat([x, y], axis=1)}, training=False))

    path = save_model(tmp_path / "plain", model, score)
    assert set(tf.saved_model.load(str(path)).signatures) == set(SIGNATURES)  # Python loads it
    reason = refused(path)
    assert reason.startswith(
        "the export does not load as the server loads it: FailedPreconditionError: Could not find variable"
    )
    assert "\n" not in reason


@pytest.mark.usefixtures("loaded_here")
def test_export_with_changing_answers_is_refused(refused: Callable, tmp_path: Path) -> None:
    clock = save_model(tmp_path / "clock", tf.Module(), lambda x, y: x + y + tf.cast(tf.timestamp() % 10.0, tf.float32))
    reason = refused(clock)
    assert "/probabilities differs by " in reason and "at most 1e-05 is allowed" in reason


@pytest.mark.parametrize(("added", "accepted"), [(0.0, True), (5e-6, True), (1e-3, False), (np.nan, False)])
def test_the_tolerance_has_two_sides(
    tiny: BuiltCase, check: Callable, monkeypatch: pytest.MonkeyPatch, added: float, accepted: bool
) -> None:
    def elsewhere(source: str, requests: Path) -> dict[str, np.ndarray]:
        signatures = tf.saved_model.load(source).signatures
        with np.load(requests, allow_pickle=True) as sent:
            requests_by_signature: dict[str, dict[str, tf.Tensor]] = {signature: {} for signature in SIGNATURES}
            for key in sent:
                signature, name = key.split("/")
                requests_by_signature[signature][name] = tf.constant(sent[key])
        answers = {signature: signatures[signature](**values) for signature, values in requests_by_signature.items()}
        return {
            f"{name}/{key}": value.numpy() + (added if name == "raw" else 0)
            for name, outputs in answers.items()
            for key, value in outputs.items()
        }

    monkeypatch.setattr(serving_check, "_load_in_subprocess", elsewhere)
    if accepted:
        assert model_utils.is_infra_validated(check(tiny.export))
    else:
        with pytest.raises(GateError, match="raw/probabilities differs by"):
            check(tiny.export)


def test_a_server_that_dies_or_hangs_is_a_refusal(
    tiny: BuiltCase, refused: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def killed(command: list[str], **_: object) -> subprocess.CompletedProcess:
        return subprocess.CompletedProcess(command, -9, "", "")

    def hung(command: list[str], **_: object) -> subprocess.CompletedProcess:
        raise subprocess.TimeoutExpired(command, serving_check.SECONDS)

    monkeypatch.setattr(subprocess, "run", killed)
    assert "the process ended with status -9" in refused(tiny.export)
    for name in ("model", "lite", "blessing", "statistics"):
        (tmp_path / name).rename(tmp_path / f"{name}-killed")
    monkeypatch.setattr(subprocess, "run", hung)
    assert f"did not answer within {serving_check.SECONDS} s" in refused(tiny.export)
