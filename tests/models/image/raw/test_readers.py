"""Readers of image data: folders of classes and spans, against Pillow and files that the tests write."""

import subprocess
import sys

import numpy as np
import pytest
from support.command import ROOT
from support.pictures import damage, decode_picture, random_images, read_rows, write_image

from models.errors import DataError
from models.image.raw import readers
from models.image.raw.inspection import inspect_span


def test_class_folders_pass_on_png_and_jpeg_and_encode_others(tmp_path):
    grey = write_image(tmp_path / "cat" / "a.png", random_images(9, 7))
    write_image(tmp_path / "cat" / "b.JPG", random_images(9, 7))
    bitmap = write_image(tmp_path / "dog" / "c.bmp", random_images(9, 7, 3))
    (tmp_path / "dog" / ".DS_Store").write_bytes(b"not an image")
    (tmp_path / "dog" / "notes.txt").write_text("not an image")
    loaded = read_rows(tmp_path)
    assert [row["key"] for row in loaded] == ["cat/a.png", "cat/b.JPG", "dog/c.bmp"]
    assert [row["label"] for row in loaded] == ["cat", "cat", "dog"]
    assert [row["image"] for row in loaded][:2] == [(tmp_path / row["key"]).read_bytes() for row in loaded[:2]]
    assert loaded[2]["image"].startswith(b"\x89PNG")
    np.testing.assert_array_equal(decode_picture(loaded[2]["image"]), bitmap)
    assert loaded[0]["brightness"] == pytest.approx(grey.mean() / 255, abs=1e-6)
    assert loaded[0]["contrast"] == pytest.approx(grey.std() / 255, abs=1e-6)


@pytest.mark.parametrize("held_out", ["test", "eval", "val"])
def test_class_folders_in_folders_of_parts(tmp_path, held_out):
    write_image(tmp_path / "train" / "cat" / "1.png", random_images(80, 100))
    write_image(tmp_path / held_out / "dog" / "1.png", random_images(80, 100))
    assert {(row["part"], row["key"]) for row in read_rows(tmp_path)} == {
        ("train", "train/cat/1.png"),
        ("test", f"{held_out}/dog/1.png"),
    }


def test_sixteen_bit_pixels_are_scaled_to_eight_bits(tmp_path):
    write_image(tmp_path / "cat" / "a.png", np.full((4, 4), 32768, np.uint16))
    assert read_rows(tmp_path)[0]["brightness"] == pytest.approx(128 / 255, abs=1e-6)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
@pytest.mark.parametrize("change", [lambda data: data[: len(data) // 2], lambda _: b"", lambda _: b"text"])
def test_a_damaged_image_is_named(tmp_path, name, change):
    write_image(tmp_path / "cat" / name, random_images(20, 20, 3))
    damage(tmp_path / "cat", name, change)
    with pytest.raises(DataError, match=f"cat/{name}: not an image that can be read"):
        read_rows(tmp_path)


def test_batches_of_large_files_are_limited_by_size(tmp_path, monkeypatch):
    for number in range(3):
        write_image(tmp_path / "cat" / f"{number}.png", random_images(20, 20))
    monkeypatch.setattr(readers, "BATCH_BYTES", 600)
    assert [batch.num_rows for batch in readers.read(tmp_path)] == [2, 1]


@pytest.mark.parametrize("make", ["flat", "file", "empty span", "forbidden"])
def test_a_span_without_images_names_what_was_expected(tmp_path, monkeypatch, make):
    source = tmp_path / "raw"
    (source / "folder").mkdir(parents=True)
    if make == "file":
        (source / "folder" / "notes.txt").write_text("no image")
    if make == "flat":
        write_image(source / "a.png", random_images(4, 4))
    if make == "forbidden":
        monkeypatch.setattr("os.scandir", lambda _: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(DataError, match="raw.*expected.*IDX files" if make != "forbidden" else "raw cannot be read"):
        inspect_span(source)


@pytest.mark.system
def test_import_loads_neither_tensorflow_nor_scikit_learn():
    heavy = "{'tensorflow', 'tfx', 'keras', 'sklearn', 'apache_beam'}"
    check = f"import sys, models.image.raw.readers; sys.exit(bool({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT)
