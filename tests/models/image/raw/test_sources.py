"""Named data sets: scikit-learn's digits, and Keras data sets with a fake Keras module."""

import sys
from types import ModuleType
from urllib.error import URLError

import numpy as np
import pytest
from support.pictures import check_images, decode_picture, random_images, read_rows

from models.errors import DataError
from models.image.raw import sources


def test_digits_equal_those_of_scikit_learn(tmp_path):
    from sklearn.datasets import load_digits

    assert sources.store_digits(tmp_path) == tmp_path
    loaded, original = read_rows(tmp_path / "span-000"), load_digits()
    assert len(loaded) == 1797
    assert [row["label"] for row in loaded] == original.target.astype(str).tolist()
    pixels = np.stack([decode_picture(row["image"]) for row in loaded])
    np.testing.assert_array_equal(np.rint(pixels / (255 / 16)), original.images)
    assert {pixels.min(), pixels.max()} == {0, 255}
    assert {row["part"] for row in loaded} == {""}
    settings = check_images(tmp_path).settings
    assert settings == {"classes": list("0123456789"), "height": 8, "width": 8, "channels": 1}


def test_storing_twice_writes_once(tmp_path):
    path = sources.store_digits(tmp_path) / "span-000" / "images.npz"
    before = path.stat().st_mtime_ns
    sources.store_digits(tmp_path)
    assert path.stat().st_mtime_ns == before
    assert [child.name for child in path.parent.iterdir()] == ["images.npz"]


def test_a_folder_with_another_data_set_is_refused(tmp_path):
    sources.store_digits(tmp_path)
    with pytest.raises(DataError, match="holds other data than 'mnist'"):
        sources.store_keras_dataset("mnist", tmp_path)


def test_a_failed_write_leaves_no_files(tmp_path, monkeypatch):
    def fail_midway(file, **_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail_midway)
    with pytest.raises(OSError, match="disk full"):
        sources.store_digits(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def fake_keras(monkeypatch, name: str, load) -> None:
    module = ModuleType(f"keras.datasets.{name}")
    module.load_data = load
    for part in ("keras", "keras.datasets"):
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_a_keras_data_set_keeps_its_official_split(tmp_path, monkeypatch):
    images, labels = random_images(5, 32, 32, 3), np.array([[0], [9], [3], [3], [1]])
    fake_keras(monkeypatch, "cifar10", lambda: ((images[:3], labels[:3]), (images[3:], labels[3:])))
    loaded = read_rows(sources.store_keras_dataset("cifar10", tmp_path) / "span-000")
    assert [row["key"] for row in loaded] == ["train/00000", "train/00001", "train/00002", "test/00000", "test/00001"]
    assert [row["label"] for row in loaded] == ["0", "9", "3", "3", "1"]
    np.testing.assert_array_equal(np.stack([decode_picture(row["image"]) for row in loaded]), images)


@pytest.mark.parametrize("error", [URLError("no network"), TimeoutError("timed out"), ValueError("bad hash")])
def test_a_failed_download_is_reported_and_leaves_no_files(tmp_path, monkeypatch, error):
    def load():
        raise error

    fake_keras(monkeypatch, "mnist", load)
    with pytest.raises(DataError, match="'mnist' could not be downloaded .* embedded digits"):
        sources.store_keras_dataset("mnist", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_an_unknown_data_set_names_the_known_ones(tmp_path):
    with pytest.raises(DataError, match="'imagenet'.*fashion_mnist"):
        sources.store_keras_dataset("imagenet", tmp_path)
