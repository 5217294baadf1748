"""Python, C++ and Java run a `.tflite` with outputs equal to NumPy and the SavedModel, and report errors."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from support import edge_models

from components.training.edge import lite_exporter, one_row
from models.catalog import CASES
from serving.edge import native
from serving.edge.interpreter import Interpreter
from serving.edge.tensors import Tensor, fit_tensors
from tour.evidence.context import Context
from tour.evidence.serving import lite_variants, raw_rows

pytestmark = pytest.mark.system

SAME = 1e-6  # between runtimes, which share their kernels
MAKERS = {"cpp": (native.build_cpp, ("g++",)), "java": (native.build_java, ("javac", "g++"))}


@pytest.fixture(scope="session")
def build_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="session", params=MAKERS)
def program(request: pytest.FixtureRequest, build_folder: Path) -> native.Program:
    build, programs = MAKERS[request.param]
    for name in programs:
        edge_models.needs(name)
    return build(build_folder)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edge_models.export_module(edge_models.Mixed(), tmp_path_factory.mktemp("mixed") / "export")


@pytest.fixture(scope="module")
def models(export: Path) -> dict[str, Path]:
    """Paths of two models: ``any`` for any number of rows, ``one`` for one row without 64-bit integers."""
    narrow = export.with_name("narrow")
    one_row.save(str(export), str(narrow))
    paths = {}
    for name, source in (("any", export), ("one", narrow)):
        paths[name] = export.with_name(f"{name}.tflite")
        paths[name].write_bytes(edge_models.convert_to_lite(source))
    return paths


def max_difference(outputs: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    assert outputs.keys() == expected.keys()
    assert all(outputs[name].shape == np.shape(expected[name]) for name in outputs)
    return max(float(np.abs(outputs[name] - expected[name]).max()) for name in outputs)


@pytest.mark.parametrize("form", ["any", "one"])
def test_every_runtime_returns_equal_outputs(program: native.Program, models: dict[str, Path], form: str) -> None:
    inputs, expected = edge_models.draw_mixed_rows(40)
    python_outputs = Interpreter(models[form].read_bytes()).answer(inputs)
    assert max_difference(python_outputs, expected) < 1e-5
    program_outputs = program.answer(models[form], inputs)
    assert max_difference(program_outputs.outputs, python_outputs) <= SAME and program_outputs.latency_us > 0


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_outputs_have_as_many_rows_as_the_inputs(program: native.Program, models: dict[str, Path], rows: int) -> None:
    inputs, expected = edge_models.draw_mixed_rows(rows)
    for form, path in models.items():
        for outputs in (Interpreter(path.read_bytes()).answer(inputs), program.answer(path, inputs).outputs):
            assert {name: values.shape for name, values in outputs.items()} == {
                name: values.shape for name, values in expected.items()
            }, form


def test_program_and_interpreter_read_the_same_signature(program: native.Program, models: dict[str, Path]) -> None:
    for path in models.values():
        python = Interpreter(path.read_bytes())
        assert program.signature(path) == (python.inputs, python.outputs)


def test_one_row_model_has_fixed_shapes_and_no_64_bit_integers(models: dict[str, Path]) -> None:
    any_rows, one_row_model = (Interpreter(models[form].read_bytes()) for form in ("any", "one"))
    assert (any_rows.rows_per_call, one_row_model.rows_per_call) == (0, 1)
    assert (any_rows.inputs["ids"].dtype, one_row_model.inputs["ids"].dtype) == ("int64", "int32")
    assert {name: tensor.shape for name, tensor in one_row_model.inputs.items()} == {"ids": (3,), "past": (2, 4)}


def test_latency_is_positive_and_below_a_second(models: dict[str, Path]) -> None:
    for path in models.values():
        assert 0 < Interpreter(path.read_bytes()).latency(edge_models.draw_mixed_rows(5)[0], 3) < 1e6


SPECS = {"ids": Tensor("int32", (3,)), "x": Tensor("float32", ())}
IDS, X = np.zeros((2, 3), np.int64), np.zeros(2, np.float32)


def test_int64_values_that_fit_become_contiguous_int32() -> None:
    tensors = fit_tensors({"x": X, "ids": np.asfortranarray(IDS + 2**31 - 1)}, SPECS)
    assert (
        tensors["ids"].dtype == np.int32 and tensors["ids"].flags.c_contiguous and (tensors["ids"] == 2**31 - 1).all()
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"ids": IDS}, "The model takes ids, x, not ids."),
        ({}, "The model takes ids, x, not nothing."),
        ({"ids": IDS, "x": X, "y": X}, "not ids, x, y."),
        ({"ids": IDS, "x": X[:1]}, "The inputs differ in their number of rows."),
        ({"ids": IDS[:, :2], "x": X}, "A row of ids has the shape [3], not [2]."),
        ({"ids": IDS, "x": X.astype(np.float64)}, "x is float32, not float64."),
        ({"ids": IDS + 2**31, "x": X}, "A value of ids does not fit into 32 bits"),
        ({"ids": IDS - 2**31 - 1, "x": X}, "A value of ids does not fit into 32 bits"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(rows: dict, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        fit_tensors(rows, SPECS)
    assert message in str(caught.value)


class Pair(tf.Module):
    """Model with two rows per call."""

    @tf.function(input_signature=[tf.TensorSpec([2, 1], tf.float32, name="x")])
    def dense(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * 2.0}


def test_model_with_two_rows_per_call_runs_in_python_only(program: native.Program, tmp_path: Path) -> None:
    path = tmp_path / "pair.tflite"
    path.write_bytes(edge_models.convert_to_lite(edge_models.export_module(Pair(), tmp_path / "export")))
    python, rows = Interpreter(path.read_bytes()), np.arange(4, dtype=np.float32).reshape(4, 1)
    assert python.rows_per_call == 2 and (python.answer({"x": rows})["y"] == 2 * rows).all()
    with pytest.raises(ValueError, match="takes 2 rows at a time, and 3 is not a multiple"):
        python.answer({"x": rows[:3]})
    with pytest.raises(ValueError, match="x takes several rows per call"):
        program.answer(path, {"x": rows})


class Open(tf.Module):
    """Model with an axis of unknown size next to the batch axis."""

    @tf.function(input_signature=[tf.TensorSpec([1, None], tf.float32, name="x")])
    def dense(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * 2.0}


def test_program_reports_an_invalid_model_file(program: native.Program, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match="could not read a model from .*model.tflite"):
        program.signature(path)
    path.write_bytes(b"no model at all")
    with pytest.raises(ValueError, match="could not read a model from .*model.tflite"):
        program.signature(path)
    export = edge_models.export_module(Open(), tmp_path / "open")
    path.write_bytes(edge_models.convert_to_lite(export))
    with pytest.raises(ValueError, match="x has an axis of variable size that is not the batch axis"):
        program.signature(path)
    tf.saved_model.save(Pair(), str(tmp_path / "other"), signatures={"other": Pair().dense})
    path.write_bytes(
        tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "other"), signature_keys=["other"]).convert()
    )
    with pytest.raises(ValueError, match="has no signature 'dense'"):
        program.signature(path)
    with pytest.raises(ValueError, match="has no signature 'dense'"):
        Interpreter(path.read_bytes())


def test_program_reports_invalid_input_files(program: native.Program, models: dict[str, Path], tmp_path: Path) -> None:
    def run(**files: bytes) -> subprocess.CompletedProcess:
        for name in ("ids", "past"):
            (tmp_path / f"{name}.bin").unlink(missing_ok=True)
        for name, data in files.items():
            (tmp_path / f"{name}.bin").write_bytes(data)
        command = [*program.command, str(models["any"]), str(tmp_path), str(tmp_path / "out")]
        return subprocess.run(command, capture_output=True, text=True)

    (tmp_path / "out").mkdir()
    assert run(ids=b"\0" * 24, past=b"\0" * 32).returncode == 0
    for files, message in (
        ({"ids": b"\0" * 24}, "past.bin"),
        ({"ids": b"\0" * 25, "past": b"\0" * 32}, "ids has 25 bytes, which is no whole number of rows of 24"),
        ({"ids": b"\0" * 48, "past": b"\0" * 32}, "inputs differ in their rows"),
    ):
        process = run(**files)
        assert process.returncode == 1 and message in process.stderr.splitlines()[-1], process.stderr
    assert subprocess.run([*program.command], capture_output=True).returncode == 2


def test_program_is_rebuilt_only_when_a_source_changes(
    build_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge_models.needs("g++")
    first = native.build_cpp(build_folder)
    monkeypatch.setattr(native, "HERE", tmp_path)
    shutil.copytree(Path(native.__file__).parent / "cpp", tmp_path / "cpp")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert native.build_cpp(build_folder) == first  # without a compiler
    with (tmp_path / "cpp" / "main.cc").open("a") as source:
        source.write("\nno program\n")
    with pytest.raises(FileNotFoundError, match=r"no C\+\+ compiler: `apt-get install g\+\+`"):
        native.build_cpp(build_folder)
    monkeypatch.undo()
    monkeypatch.setattr(native, "HERE", tmp_path)
    with pytest.raises(ValueError, match=r"g\+\+: .*main.cc:\d+:\d+: error: "):
        native.build_cpp(build_folder)


def test_missing_jdk_error_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no JDK with JNI headers: `apt-get install openjdk-17-jdk-headless`"):
        native.build_java(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_all_runtimes_agree_on_a_thousand_inputs(pushed_home: Path, program: native.Program, case: str) -> None:
    context = Context.of(pushed_home, case)
    rows, folder = edge_models.load_thousand_rows(context), context.artifact("lite_model")
    network, gates = context.case.load("model"), context.settings["gates"]
    expected = lite_exporter.run_saved_model(str(context.served), rows)
    record = json.loads((folder / "lite.json").read_text())
    for variant in (*lite_exporter.VARIANTS, "one_row", "model"):
        path = folder / f"{variant}.tflite"
        python = Interpreter(path.read_bytes()).answer(rows)
        outputs = program.answer(path, rows).outputs
        assert len(outputs[network.SCORE]) == 1000 and max_difference(outputs, python) <= SAME, variant
        difference = float(np.abs(outputs[network.SCORE] - expected[network.SCORE]).max())
        # The gate checks the metric of quantised variants; their difference may be up to 1.5 times the recorded one.
        differences = {entry["variant"]: entry["difference"] for entry in record["variants"]}
        allowed = (
            1.5 * differences[record["chosen"] if variant == "model" else variant]
            if variant in (*differences, "model")
            else 0.0
        )
        print(case, variant, difference)
        assert difference <= max(gates["lite_tolerance"], allowed), variant


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_evidence_lists_passing_variants_and_a_refused_one(pushed_home: Path, case: str) -> None:
    context = Context.of(pushed_home, case)
    table, chosen, _, difference, operations = lite_variants.conversions(context)
    verdicts = {row[0]: row[-1] for row in table.rows}
    assert verdicts.pop("int8, calibrated on zeros") == "refused"
    assert tuple(verdicts) == lite_exporter.VARIANTS and verdicts[chosen.value] == "passes"
    assert "float32 TFLite differs from the SavedModel" in difference.value
    if case == "image":
        assert operations.reason == "LiteRT has no kernel for DecodeImage"
    else:
        counts = dict(operations.rows)
        assert counts["HASHTABLE_FIND"] == 5 and counts["HASHTABLE_IMPORT"] == 4  # merchants share a table


@pytest.mark.parametrize("case", CASES)
def test_evidence_compares_raw_rows_by_litert_with_the_saved_model(pushed_home: Path, case: str) -> None:
    (result,) = raw_rows.compare_runtimes(Context.of(pushed_home, case))
    if case == "image":
        assert result.reason == "LiteRT has no kernel for DecodeImage"
    else:
        (exact, *times, _), (lite, *_, difference) = result.rows
        assert (exact, lite) == ("SavedModel in a session", "LiteRT, model_raw.tflite") and min(times) > 0
        assert 0 <= difference < 1e-4
