"""The edge variants: their sizes, the agreement of float32 with the SavedModel, and the choice of the smallest."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from support.built_case import BuiltCase, build_requests, get_built_case
from support.tiny_case.case import CASE
from tfx.types import standard_artifacts

from components.training.edge import lite_exporter
from components.training.edge.lite_exporter import VARIANTS, LiteExporter, LiteModel, convert, run_variant
from components.training.edge.raw_signature import MissingKernelError
from models import catalog
from models.errors import GateError
from serving.edge import raw_model
from serving.edge.interpreter import Interpreter

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BuiltCase:
    return get_built_case(CASE, tmp_path_factory)


def run_exporter(tiny: BuiltCase, folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Run the component's executor on the tiny case; return the folder of variants."""
    patch.setitem(catalog.CASES, CASE.name, CASE)
    patch.setattr(lite_exporter, "TIMED_CALLS", 2)
    model, examples, graph = (
        standard_artifacts.Model(),
        standard_artifacts.Examples(),
        standard_artifacts.TransformGraph(),
    )
    lite = LiteModel()
    model.uri, examples.uri, graph.uri, lite.uri = map(str, (folder, tiny.examples, tiny.graph, folder / "lite"))
    (folder / "Format-Serving").symlink_to(tiny.export)
    (folder / "lite").mkdir()
    inputs = {"model": [model], "examples": [examples], "transform_graph": [graph]}
    properties = {"config": json.dumps({"case": CASE.name, "settings": CASE.settings["gates"]})}
    LiteExporter.EXECUTOR_SPEC.executor_class().Do(inputs, {"lite_model": [lite]}, properties)
    return folder / "lite"


@pytest.fixture(scope="module")
def good(tiny: BuiltCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The variants of the tiny case's own model. Read-only."""
    with pytest.MonkeyPatch.context() as patch:
        return run_exporter(tiny, tmp_path_factory.mktemp("good"), patch)


@pytest.fixture
def contents(good: Path) -> dict[str, bytes]:
    """The file of every variant."""
    return {variant: (good / f"{variant}.tflite").read_bytes() for variant in VARIANTS}


@pytest.fixture
def export(
    tiny: BuiltCase, good: Path, contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Path]:
    """A function that runs the executor again over the same model, with the conversions of :func:`good`."""

    def converted(path: str, variant: str, rows: dict[str, np.ndarray]) -> bytes:
        return contents[variant] if Path(path).samefile(tiny.export) else (good / lite_exporter.ONE_ROW).read_bytes()

    monkeypatch.setattr(lite_exporter, "convert", converted)
    monkeypatch.setattr(lite_exporter.one_row, "save", lambda *_: None)
    return lambda: run_exporter(tiny, tmp_path, monkeypatch)


def inputs(tiny: BuiltCase) -> dict[str, np.ndarray]:
    return {"scaled": tiny.rows["scaled"]}


def row(variant: str, size: int, difference: float = 0.0, metric_loss: float = 0.0) -> dict:
    return {"variant": variant, "bytes": size, "difference": difference, "metric": 0.9, "metric_loss": metric_loss}


def choose(folder: Path, rows: list[dict], tolerance: float = 1e-4, loss: float = 0.01) -> dict:
    """Run ``_write_chosen`` on a table; the file of each variant contains its name."""
    for row in rows:
        (folder / f"{row['variant']}.tflite").write_text(row["variant"])
    lite_exporter._write_chosen(folder, rows, {"lite_tolerance": tolerance, "lite_metric_loss": loss})
    record = json.loads((folder / "lite.json").read_text())
    assert (folder / "model.tflite").read_text() == record["chosen"]
    return record


def test_weights_of_fewer_bits_make_smaller_files(contents: dict[str, bytes]) -> None:
    sizes = {variant: len(content) for variant, content in contents.items()}
    weights = 2 * 64 + 64 * 64 + 64 * 2  # the kernels, without biases and the graph
    assert sizes["float32"] > 4 * weights > sizes["float16"] > 2 * weights
    assert weights < sizes["dynamic"] < 2 * weights
    assert weights < sizes["int8"] < sizes["float16"]  # its ranges and zero points need space as well


def test_every_variant_answers_every_row_within_its_precision(tiny: BuiltCase, contents: dict[str, bytes]) -> None:
    expected = tiny.fitted.model(inputs(tiny), training=False).numpy()
    expected = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)  # the Keras model, not the export
    bounds = {"float32": 1e-5, "float16": 2e-3, "dynamic": 0.05, "int8": 0.1}
    for variant, content in contents.items():
        answers, latency = run_variant(content, inputs(tiny))
        assert answers["probabilities"].shape == expected.shape and latency > 0
        assert np.abs(answers["probabilities"] - expected).max() < bounds[variant], variant


def test_a_converted_model_with_one_row_answers_as_with_many(tiny: BuiltCase, contents: dict[str, bytes]) -> None:
    many, _ = run_variant(contents["float32"], inputs(tiny))
    single, _ = run_variant(contents["float32"], {"scaled": tiny.rows["scaled"][3:4]})
    assert np.allclose(single["probabilities"][0], many["probabilities"][3], atol=1e-6)


def test_good_model_writes_all_variants_the_chosen_one_and_the_table(tiny: BuiltCase, good: Path) -> None:
    folder = good
    record = json.loads((folder / "lite.json").read_text())
    table = {row["variant"]: row for row in record["variants"]}
    assert tuple(table) == VARIANTS and all(row["passed"] for row in table.values())
    assert {v: row["bytes"] for v, row in table.items()} == {
        v: (folder / f"{v}.tflite").stat().st_size for v in VARIANTS
    }
    assert record["chosen"] == min(VARIANTS, key=lambda v: (folder / f"{v}.tflite").stat().st_size)
    assert (folder / "model.tflite").read_bytes() == (folder / f"{record['chosen']}.tflite").read_bytes()
    truth = tiny.rows["above"][:, 0]
    answers, _ = run_variant((folder / "model.tflite").read_bytes(), inputs(tiny))
    assert record["one_row"]["bytes"] == (folder / "one_row.tflite").stat().st_size
    assert table[record["chosen"]]["metric"] == np.mean(answers["probabilities"].argmax(axis=1) == truth) > 0.5


def test_one_row_model_agrees_with_the_saved_model(tiny: BuiltCase, good: Path) -> None:
    interpreter = Interpreter((good / "one_row.tflite").read_bytes())
    assert interpreter.rows_per_call == 1
    outputs, expected = interpreter.answer(inputs(tiny)), lite_exporter.run_saved_model(str(tiny.export), inputs(tiny))
    difference = np.abs(outputs["probabilities"] - expected["probabilities"]).max()
    assert difference < 1e-5 and np.isclose(
        json.loads((good / "lite.json").read_text())["one_row"]["difference"], difference, atol=1e-7
    )


def test_raw_model_agrees_with_the_saved_model_and_the_record_names_it(tiny: BuiltCase, good: Path) -> None:
    content, record = (good / raw_model.FILE).read_bytes(), json.loads((good / "lite.json").read_text())["raw"]
    assert record["bytes"] == len(content) and record["sha256"] == hashlib.sha256(content).hexdigest()
    assert 0 <= record["difference"] < 1e-5 and record["latency_us"] > 0
    signature = tf.saved_model.load(str(tiny.export)).signatures["raw"]
    rows = build_requests(tiny)["raw"]
    expected = signature(**{name: tf.constant(values) for name, values in rows.items()})["probabilities"].numpy()
    assert np.allclose(Interpreter(content, signature="raw").answer(rows)["probabilities"], expected, atol=1e-5)


def test_raw_model_beyond_the_tolerance_is_refused(
    tiny: BuiltCase, export: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Interpreter.answer
    monkeypatch.setattr(
        Interpreter,
        "answer",
        lambda self, rows: {n: v + 0.001 * ("scaled" not in self.inputs) for n, v in answer(self, rows).items()},
    )
    with pytest.raises(GateError, match=r"the raw signature in TFLite differs from the SavedModel by 0\.001, and at"):
        export()
    assert not (tmp_path / "lite" / raw_model.FILE).exists()


def test_a_raw_signature_that_cannot_be_converted_is_recorded(
    export: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> bytes:
        raise MissingKernelError({"decode/DecodeImage": "DecodeImage"})

    monkeypatch.setattr(lite_exporter.raw_signature, "convert_raw", refuse)
    folder = export()
    assert json.loads((folder / "lite.json").read_text())["raw"] == {"missing": "LiteRT has no kernel for DecodeImage"}
    assert (folder / "model.tflite").exists() and not (folder / raw_model.FILE).exists()


def test_one_row_model_beyond_the_tolerance_is_refused(export: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def altered(content: bytes, rows: dict) -> tuple[dict, float]:
        answers, latency = run_variant(content, rows)
        shift = 0.001 * (Interpreter(content).rows_per_call == 1)
        return {name: value + shift for name, value in answers.items()}, latency

    monkeypatch.setattr(lite_exporter, "run_variant", altered)
    with pytest.raises(
        GateError, match=r"float32 for one row differs from the SavedModel by 0\.001, and at most 1e-05 is"
    ):
        export()


def test_float32_beyond_the_tolerance_is_refused(
    tiny: BuiltCase, export: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Altered(tf.Module):
        def __init__(self) -> None:
            self.loaded = tf.saved_model.load(str(tiny.export))

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="scaled")])
        def dense(self, scaled: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"probabilities": self.loaded.signatures["dense"](scaled=scaled)["probabilities"] + 0.001}

    altered = Altered()
    tf.saved_model.save(altered, str(tmp_path / "altered"), signatures={"dense": altered.dense})
    other = convert(str(tmp_path / "altered"), "float32", inputs(tiny))
    original = lite_exporter.convert
    monkeypatch.setattr(
        lite_exporter,
        "convert",
        lambda path, variant, rows: other if variant == "float32" else original(path, variant, rows),
    )
    with pytest.raises(GateError, match=r"differs from the SavedModel by 0\.001, and at most 1e-05 is") as caught:
        export()
    assert caught.value.gate == "lite"
    assert not (tmp_path / "lite" / "model.tflite").exists() and not (tmp_path / "lite" / "lite.json").exists()


def test_the_smallest_is_not_chosen_if_it_loses_too_much(
    contents: dict[str, bytes], export: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_size = sorted(VARIANTS, key=lambda variant: len(contents[variant]))
    measured = iter(VARIANTS)

    def spoilt(content: bytes, rows: dict) -> tuple[dict, float]:
        answers, latency = run_variant(content, rows)
        if next(measured, "one row") == by_size[0]:
            answers = {name: value[:, ::-1] for name, value in answers.items()}  # always the wrong class
        return answers, latency

    monkeypatch.setattr(lite_exporter, "run_variant", spoilt)
    record = json.loads((export() / "lite.json").read_text())
    table = {row["variant"]: row for row in record["variants"]}
    assert [v for v in VARIANTS if not table[v]["passed"]] == by_size[:1]
    assert table[by_size[0]]["metric_loss"] > 0.5 and record["chosen"] == by_size[1]


def test_the_smallest_that_passes_is_chosen(tmp_path: Path) -> None:
    rows = [row("float32", 100), row("dynamic", 30), row("float16", 55), row("int8", 28, metric_loss=0.0101)]
    record = choose(tmp_path, rows)
    assert record["chosen"] == "dynamic"
    assert [row["passed"] for row in record["variants"]] == [True, True, True, False]


@pytest.mark.parametrize(
    ("loss", "chosen"), [(0.01, "int8"), (0.0101, "float32"), (-0.3, "int8"), (float("nan"), "float32")]
)
def test_the_bound_on_the_metric_has_two_sides(tmp_path: Path, loss: float, chosen: str) -> None:
    assert choose(tmp_path, [row("float32", 100), row("int8", 28, metric_loss=loss)])["chosen"] == chosen


@pytest.mark.parametrize("difference", [0.0, 1e-4])
def test_a_difference_within_the_tolerance_passes(tmp_path: Path, difference: float) -> None:
    assert choose(tmp_path, [row("float32", 100, difference)])["chosen"] == "float32"


@pytest.mark.parametrize("difference", [1.1e-4, 1.0, float("inf"), float("nan")])
def test_a_difference_beyond_the_tolerance_or_nan_is_refused(tmp_path: Path, difference: float) -> None:
    with pytest.raises(GateError, match="float32 TFLite differs from the SavedModel"):
        choose(tmp_path, [row("float32", 100, difference), row("int8", 28)])


def test_only_float32_has_to_be_exact(tmp_path: Path) -> None:
    assert choose(tmp_path, [row("float32", 100), row("int8", 28, difference=0.2)])["chosen"] == "int8"


def test_no_variant_within_the_metric_loss_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        GateError, match=r"no variant keeps the metric: float32 loses 0\.02, and at most 0\.01 is allowed"
    ):
        choose(tmp_path, [row("float32", 100, metric_loss=0.02), row("int8", 28, metric_loss=0.3)])
