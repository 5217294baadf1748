"""The edge: Python, C++ and Java answer a `.tflite` as NumPy, the SavedModel and each other do, and say what is wrong."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from support import edge_models

from components.training import lite_exporter, one_row
from models.catalog import CASES
from serving.edge import native
from serving.edge.interpreter import Interpreter
from serving.edge.tensors import Tensor, fitted
from tour.evidence.context import Context
from tour.evidence.serving import edge_files

pytestmark = pytest.mark.system

SAME = 1e-6  # between runtimes, which share their kernels
MAKERS = {"cpp": (native.cpp, ("g++",)), "java": (native.java, ("javac", "g++"))}


@pytest.fixture(scope="session")
def built_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="session", params=MAKERS)
def program(request: pytest.FixtureRequest, built_in: Path) -> native.Program:
    make, programs = MAKERS[request.param]
    for one in programs:
        edge_models.needs(one)
    return make(built_in)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edge_models.exported(edge_models.Mixed(), tmp_path_factory.mktemp("mixed") / "export")


@pytest.fixture(scope="module")
def models(export: Path) -> dict[str, Path]:
    """The model for any number of rows, and for one row without 64-bit integers."""
    narrow = export.with_name("narrow")
    one_row.save(str(export), str(narrow))
    paths = {}
    for name, source in (("any", export), ("one", narrow)):
        paths[name] = export.with_name(f"{name}.tflite")
        paths[name].write_bytes(edge_models.lite(source))
    return paths


def worst(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    assert found.keys() == expected.keys()
    assert all(found[name].shape == np.shape(expected[name]) for name in found)
    return max(float(np.abs(found[name] - expected[name]).max()) for name in found)


@pytest.mark.parametrize("form", ["any", "one"])
def test_every_runtime_answers_a_model_equally(program: native.Program, models: dict[str, Path], form: str) -> None:
    given, expected = edge_models.mixed(40)
    python = Interpreter(models[form].read_bytes()).answer(given)
    assert worst(python, expected) < 1e-5
    answers = program.answer(models[form], given)
    assert worst(answers.outputs, python) <= SAME and answers.latency_us > 0


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_any_number_of_rows_has_as_many_answers(program: native.Program, models: dict[str, Path], rows: int) -> None:
    given, expected = edge_models.mixed(rows)
    for form, path in models.items():
        for found in (Interpreter(path.read_bytes()).answer(given), program.answer(path, given).outputs):
            assert {name: values.shape for name, values in found.items()} == {
                name: values.shape for name, values in expected.items()
            }, form


def test_a_program_sees_the_signature_that_the_interpreter_sees(
    program: native.Program, models: dict[str, Path]
) -> None:
    for path in models.values():
        python = Interpreter(path.read_bytes())
        assert program.signature(path) == (python.inputs, python.outputs)


def test_one_row_has_no_open_axis_and_no_64_bit_integer(models: dict[str, Path]) -> None:
    any_, one = (Interpreter(models[form].read_bytes()) for form in ("any", "one"))
    assert (any_.fixed, one.fixed) == (0, 1)
    assert (any_.inputs["ids"].dtype, one.inputs["ids"].dtype) == ("int64", "int32")
    assert {name: tensor.shape for name, tensor in one.inputs.items()} == {"ids": (3,), "past": (2, 4)}


def test_the_latency_is_of_one_row(models: dict[str, Path]) -> None:
    for path in models.values():
        assert 0 < Interpreter(path.read_bytes()).latency(edge_models.mixed(5)[0], 3) < 1e6


WANTED = {"ids": Tensor("int32", (3,)), "x": Tensor("float32", ())}
IDS, X = np.zeros((2, 3), np.int64), np.zeros(2, np.float32)


def test_what_fits_is_narrowed_and_laid_out_in_order() -> None:
    made = fitted({"x": X, "ids": np.asfortranarray(IDS + 2**31 - 1)}, WANTED)
    assert made["ids"].dtype == np.int32 and made["ids"].flags.c_contiguous and (made["ids"] == 2**31 - 1).all()


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ({"ids": IDS}, "The model takes ids, x, not ids."),
        ({}, "The model takes ids, x, not nothing."),
        ({"ids": IDS, "x": X, "y": X}, "not ids, x, y."),
        ({"ids": IDS, "x": X[:1]}, "The inputs differ in their number of rows."),
        ({"ids": IDS[:, :2], "x": X}, "A row of ids has the shape [3], not [2]."),
        ({"ids": IDS, "x": X.astype(np.float64)}, "x is float32, not float64."),
        ({"ids": IDS + 2**31, "x": X}, "A number of ids does not fit into 32 bits"),
        ({"ids": IDS - 2**31 - 1, "x": X}, "A number of ids does not fit into 32 bits"),
    ],
)
def test_what_does_not_fit_is_refused(rows: dict, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        fitted(rows, WANTED)
    assert sentence in str(caught.value)


class Pair(tf.Module):
    """Two rows at a time."""

    @tf.function(input_signature=[tf.TensorSpec([2, 1], tf.float32, name="x")])
    def dense(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * 2.0}


def test_a_model_of_several_rows_at_a_time(program: native.Program, tmp_path: Path) -> None:
    path = tmp_path / "pair.tflite"
    path.write_bytes(edge_models.lite(edge_models.exported(Pair(), tmp_path / "export")))
    python, rows = Interpreter(path.read_bytes()), np.arange(4, dtype=np.float32).reshape(4, 1)
    assert python.fixed == 2 and (python.answer({"x": rows})["y"] == 2 * rows).all()
    with pytest.raises(ValueError, match="takes 2 rows at a time, and 3 is no multiple"):
        python.answer({"x": rows[:3]})
    with pytest.raises(ValueError, match="x takes several rows at a time, and not one"):
        program.answer(path, {"x": rows})


class Open(tf.Module):
    """An axis of any size beside the rows."""

    @tf.function(input_signature=[tf.TensorSpec([1, None], tf.float32, name="x")])
    def dense(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * 2.0}


def test_a_program_says_what_is_wrong_with_a_file(program: native.Program, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match="could not read a model from .*model.tflite"):
        program.signature(path)
    path.write_bytes(b"no model at all")
    with pytest.raises(ValueError, match="could not read a model from .*model.tflite"):
        program.signature(path)
    export = edge_models.exported(Open(), tmp_path / "open")
    path.write_bytes(edge_models.lite(export))
    with pytest.raises(ValueError, match="x has an open axis beside the rows'"):
        program.signature(path)
    tf.saved_model.save(Pair(), str(tmp_path / "other"), signatures={"other": Pair().dense})
    path.write_bytes(
        tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "other"), signature_keys=["other"]).convert()
    )
    with pytest.raises(ValueError, match="has no signature 'dense'"):
        program.signature(path)
    with pytest.raises(ValueError, match="has no signature 'dense'"):
        Interpreter(path.read_bytes())


def test_a_program_says_what_is_wrong_with_inputs(
    program: native.Program, models: dict[str, Path], tmp_path: Path
) -> None:
    def run(**files: bytes) -> subprocess.CompletedProcess:
        for name in ("ids", "past"):
            (tmp_path / f"{name}.bin").unlink(missing_ok=True)
        for name, data in files.items():
            (tmp_path / f"{name}.bin").write_bytes(data)
        command = [*program.command, str(models["any"]), str(tmp_path), str(tmp_path / "out")]
        return subprocess.run(command, capture_output=True, text=True)

    (tmp_path / "out").mkdir()
    assert run(ids=b"\0" * 24, past=b"\0" * 32).returncode == 0
    for files, sentence in (
        ({"ids": b"\0" * 24}, "past.bin"),
        ({"ids": b"\0" * 25, "past": b"\0" * 32}, "ids has 25 bytes, which is no whole number of rows of 24"),
        ({"ids": b"\0" * 48, "past": b"\0" * 32}, "inputs differ in their rows"),
    ):
        done = run(**files)
        assert done.returncode == 1 and sentence in done.stderr.splitlines()[-1], done.stderr
    assert subprocess.run([*program.command], capture_output=True).returncode == 2


def test_it_is_built_once_and_again_when_a_source_changes(
    built_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge_models.needs("g++")
    first = native.cpp(built_in)
    monkeypatch.setattr(native, "HERE", tmp_path)
    shutil.copytree(Path(native.__file__).parent / "cpp", tmp_path / "cpp")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert native.cpp(built_in) == first  # without a compiler
    with (tmp_path / "cpp" / "main.cc").open("a") as source:
        source.write("\nno program\n")
    with pytest.raises(FileNotFoundError, match=r"no C\+\+ compiler: `apt-get install g\+\+`"):
        native.cpp(built_in)
    monkeypatch.undo()
    monkeypatch.setattr(native, "HERE", tmp_path)
    with pytest.raises(ValueError, match=r"g\+\+: .*main.cc:\d+:\d+: error: "):
        native.cpp(built_in)


def test_without_a_jdk_its_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no JDK with JNI headers: `apt-get install openjdk-17-jdk-headless`"):
        native.java(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_all_agree_on_a_thousand_inputs(pushed_home: Path, program: native.Program, case: str) -> None:
    context = Context.of(pushed_home, case)
    rows, folder = edge_models.thousand(context), context.artifact("lite_model")
    network, gates = context.case.load("model"), context.settings["gates"]
    expected = lite_exporter.answers(str(context.served), rows)
    record = json.loads((folder / "lite.json").read_text())
    for variant in (*lite_exporter.VARIANTS, "one_row", "model"):
        path = folder / f"{variant}.tflite"
        python = Interpreter(path.read_bytes()).answer(rows)
        found = program.answer(path, rows).outputs
        assert len(found[network.SCORE]) == 1000 and worst(found, python) <= SAME, variant
        difference = float(np.abs(found[network.SCORE] - expected[network.SCORE]).max())
        # What is quantised is held to the metric by the gate, and differs as it says there; half as much again here.
        told = {one["variant"]: one["difference"] for one in record["variants"]}
        allowed = (
            1.5 * told[record["chosen"] if variant == "model" else variant] if variant in (*told, "model") else 0.0
        )
        print(case, variant, difference)
        assert difference <= max(gates["lite_tolerance"], allowed), variant


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_evidence_shows_variants_that_pass_and_one_that_is_refused(pushed_home: Path, case: str) -> None:
    context = Context.of(pushed_home, case)
    table, chosen, _, told = edge_files.conversions(context)
    verdicts = {row[0]: row[-1] for row in table.rows}
    assert verdicts.pop("int8, calibrated on zeros") == "refused"
    assert tuple(verdicts) == lite_exporter.VARIANTS and verdicts[chosen.value] == "passes"
    assert "float32 TFLite differs from the SavedModel" in told.value
