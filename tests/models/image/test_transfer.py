"""Transfer learning: sources of a base and their errors, frozen layers, and the gain over training from scratch."""

import json
import sys
import urllib.error
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import transfer as benchmark
from models.catalog import CASES
from models.errors import DataError
from models.image import model as image
from models.image import transfer

pytestmark = pytest.mark.system

SHAPE = (8, 8, 1)
PIXELS = np.random.default_rng(1).random((6, *SHAPE), np.float32)
SETTINGS = {
    **CASES["image"].settings["training"],
    "filters": 8,
    "dropout": 0.0,
    "augment": False,
    "classes": ["a", "b", "c"],
}
FEATURES = {"pixels": tf.TensorSpec([None, *SHAPE])}


def build_base() -> keras.Model:
    keras.utils.set_random_seed(1)
    return transfer.remove_head(image.build(SETTINGS, FEATURES))


def test_a_base_loads_from_a_file_and_from_a_folder(tmp_path: Path) -> None:
    body = build_base()
    body.save(tmp_path / "base.keras")
    for source in (tmp_path / "base.keras", tmp_path):
        loaded = transfer.load_base(str(source), SHAPE)
        assert np.array_equal(loaded(PIXELS), body(PIXELS)) and np.ptp(loaded(PIXELS)) > 0.1


def test_a_saved_model_loads_as_a_base(tmp_path: Path) -> None:
    body = build_base()
    body.export(str(tmp_path / "hub"), verbose=False)
    hub = transfer.load_base(str(tmp_path / "hub"), SHAPE)
    assert np.allclose(hub(PIXELS), body(PIXELS), atol=1e-5)
    # The SavedModel's own checks are Keras' responsibility; ours is the network on top of it.
    assert transfer.add_head(hub, 3, 0.0)({"pixels": PIXELS}).shape == (6, 3)


def test_a_base_with_another_input_shape_is_refused(tmp_path: Path) -> None:
    build_base().save(tmp_path / "base.keras")
    with pytest.raises(DataError, match=r"expects pictures of \(8, 8, 1\), but these are \(28, 28, 1\)"):
        transfer.load_base(str(tmp_path), (28, 28, 1))


def test_a_failed_download_of_weights_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*words: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", refuse)
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    with pytest.raises(
        DataError, match="'MobileNetV2' cannot be loaded.*no route to host.*Give a .keras file"
    ) as caught:
        transfer.load_base("MobileNetV2", SHAPE)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'NoSuchNet' cannot be loaded.*no such application"):
        transfer.load_base("NoSuchNet", SHAPE)
    (tmp_path / "base.keras").write_bytes(b"not a model")
    with pytest.raises(DataError, match="cannot be loaded"):
        transfer.load_base(str(tmp_path), SHAPE)


def test_an_application_accepts_small_grey_pictures() -> None:
    """The loader of the test gives random weights, as ImageNet's need a download."""
    body = transfer.load_base(
        "MobileNetV2", SHAPE, lambda name, shape: transfer.load_application(name, shape, weights=None)
    )
    model = transfer.add_head(body, 3, 0.0)
    assert model({"pixels": PIXELS}).shape == (6, 3)
    assert [variable.path.split("/")[0] for variable in model.trainable_variables if "logits" in variable.path] == [
        "logits",
        "logits",
    ]
    assert not body.trainable_variables and len(body.variables) > 200
    # The application's inputs are in -1..1, as in its training: black is -1.
    base_input = body.operations[-2].output
    inputs_of_base = keras.Model(body.input, base_input)
    assert np.allclose(inputs_of_base(np.zeros((1, *SHAPE), np.float32)), -1) and inputs_of_base.output_shape[1:] == (
        96,
        96,
        3,
    )


@pytest.mark.parametrize("setting", ["transfer", "pretrained"])
def test_the_case_trains_only_the_head_on_a_frozen_base(setting: str, tmp_path: Path) -> None:
    build_base().save(tmp_path / "base.keras")
    if setting == "transfer":
        model = image.build({**SETTINGS, "transfer": str(tmp_path)}, FEATURES)
    else:
        model = image.build({**SETTINGS, "transfer": "NoSuchNet"}, FEATURES, str(tmp_path))
    names = {variable.path.split("/")[0].rsplit("_", 1)[0] for variable in model.trainable_variables}
    assert len(model.trainable_variables) == 4 and "logits" in names
    before = [variable.numpy() for variable in model.get_layer("base").weights]
    labels = np.arange(6) % 3
    transfer.fit(model, (PIXELS, labels), 5, 0.01)
    for variable, after in zip(before, model.get_layer("base").weights, strict=True):
        assert np.array_equal(variable, after.numpy())  # the moving moments too


def test_split_has_few_pictures_of_half_of_the_classes() -> None:
    labels = np.repeat(np.arange(10), 30)
    pictures = labels[:, None, None, None] + np.zeros((1, 2, 2, 1))
    parts = transfer.split_classes((pictures, labels), (pictures[:200], labels[:200]), 4, seed=3)
    new = set(parts.names)
    assert len(new) == 5 and set(np.unique(parts.base[0])) == set(range(10)) - new and len(parts.base[1]) == 150
    for pixels, numbers in (parts.few, parts.held):
        assert np.array_equal(np.array(parts.names)[numbers], pixels[:, 0, 0, 0])
    assert np.array_equal(np.bincount(parts.few[1]), [4] * 5)
    assert set(parts.held[0][:, 0, 0, 0]) == new & set(range(7))
    other = transfer.split_classes((pictures, labels), (pictures, labels), 4, seed=4)
    assert other.names != parts.names


def draw_bars(rows: int, angles: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw noisy pictures of a bar at a random position; its class is its angle."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, angles, rows)
    y, x = np.mgrid[:8, :8] - 3.5
    angle = (labels * np.pi / angles)[:, None, None]
    shift = rng.uniform(-2, 2, (rows, 1, 1))
    pictures = (np.abs(x * np.sin(angle) - y * np.cos(angle) - shift) < 0.8) + 0.25 * rng.normal(size=(rows, 8, 8))
    return pictures[..., None].astype(np.float32), labels


@pytest.mark.slow
def test_transfer_beats_training_from_scratch_on_few_pictures() -> None:
    keras.utils.set_random_seed(1)
    train, held = draw_bars(2000, 10, 1), draw_bars(1000, 10, 2)
    make = transfer.network_builder(image, SETTINGS, SHAPE)
    parts = transfer.split_classes(train, held, 4, seed=1)
    pretrained = transfer.fit(make(5), parts.base, 150, 0.003)
    body = transfer.remove_head(pretrained)
    before = [old.numpy() for old in body.trainable_variables]
    accuracies = transfer.compare_methods(body, make, parts, 40, 0.003)
    assert set(accuracies) == {"scratch", "frozen", "thawed"}
    assert max(accuracies["frozen"], accuracies["thawed"]) > accuracies["scratch"] + 0.03
    assert accuracies["frozen"] > 0.4  # five classes: chance is .2
    assert any(not np.array_equal(old, new.numpy()) for old, new in zip(before, body.trainable_variables, strict=True))


def test_benchmark_report_is_consistent_and_missing_data_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parents[3]
    report = json.loads((root / "benchmarks" / "results" / "transfer.json").read_text())
    for row in report["rows"]:
        outcomes = [outcome for outcome in report["outcomes"] if outcome["shots"] == row["shots"]]
        assert sorted(outcome["seed"] for outcome in outcomes) == sorted(report["seeds"])
        for method in ("scratch", "frozen", "thawed"):
            assert row[method]["mean"] == pytest.approx(np.mean([outcome[method] for outcome in outcomes]))
            assert row[method]["deviation"] == pytest.approx(np.std([outcome[method] for outcome in outcomes], ddof=1))
    monkeypatch.setattr(sys, "argv", ["transfer", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    with pytest.raises(DataError, match="none"):
        benchmark.main()
    assert not (tmp_path / "out").exists()
