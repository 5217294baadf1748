"""The account of a window of images: sizes, splits, copies, faults, and the command that prints it."""

from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from support.command import showcase
from support.pictures import check_images, encode_image, random_images, read_rows
from tensorflow_metadata.proto.v0 import schema_pb2

from cli import commands
from models.image.case import CASE
from models.image.data import _read as read_span
from models.image.raw.image_report import LARGEST


def write(path: Path, seed: int, size: tuple[int, ...] = (6, 5), format_: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    path.write_bytes(encode_image(Image.fromarray(pixels), format_))


def fill(span: Path, count: int = 40, labels: tuple[str, ...] = ("cat", "dog"), **options: object) -> Path:
    for offset, label in enumerate(labels):
        for number in range(count):
            write(span / label / f"{number}.png", 1000 * offset + number, **options)
    return span


def test_the_size_is_the_median_and_neither_the_first_nor_the_largest_one(tmp_path: Path) -> None:
    fill(tmp_path, size=(20, 30, 3))
    write(tmp_path / "cat" / "00.png", 7, (1, 1))
    write(tmp_path / "cat" / "01.png", 8, (900, 800))
    assert check_images(tmp_path).settings == {"classes": ["cat", "dog"], "height": 20, "width": 30, "channels": 3}
    assert check_images(tmp_path, height=7).settings["height"] == 7


@pytest.mark.parametrize(("size", "expected"), [((1, 2), 4), ((300, 300), LARGEST)])
def test_the_size_is_what_the_network_can_use(tmp_path: Path, size: tuple[int, int], expected: int) -> None:
    settings = check_images(fill(tmp_path, size=size)).settings
    assert settings["height"] == settings["width"] == expected and settings["channels"] == 1


def test_one_colour_picture_makes_three_channels(tmp_path: Path) -> None:
    write(fill(tmp_path) / "cat" / "c.png", 1, (6, 5, 3))
    assert check_images(tmp_path).settings["channels"] == 3


def test_flat_pictures_are_used_and_fit_the_schema(tmp_path: Path) -> None:
    fill(tmp_path)
    Image.new("L", (5, 6), 200).save(tmp_path / "cat" / "flat.png")
    halves = np.repeat(np.array([0, 255], np.uint8), 5001 * 2).reshape(2, -1)
    Image.fromarray(halves).save(tmp_path / "cat" / "halves.png")
    report = check_images(tmp_path)
    assert report.rows == 82 and not report.refused
    schema = text_format.Parse(CASE.schema_path.read_text(), schema_pb2.Schema())
    domains = {feature.name: feature.float_domain for feature in schema.feature if feature.HasField("float_domain")}
    rows = read_rows(tmp_path)
    assert {0.0, 0.5} < {row["contrast"] for row in rows}
    for name in ("brightness", "contrast"):
        assert all(domains[name].min <= row[name] <= domains[name].max for row in rows)


def test_examples_number_the_classes_in_sorted_order(tmp_path: Path) -> None:
    names = ["a,b", "Ka\u0308fer", "cat"]
    fill(tmp_path, 30, tuple(names))
    report = check_images(tmp_path)
    batches = [batch for _, batch in read_span(str(tmp_path), {**CASE.settings["data"], **report.settings})]
    pairs = {
        (label[0].decode(), number[0])
        for batch in batches
        for label, number in zip(batch["label"].to_pylist(), batch["label_id"].to_pylist(), strict=True)
    }
    assert pairs == {("Käfer", 0), ("a,b", 1), ("cat", 2)}


def test_a_class_that_is_only_held_out_is_refused_with_its_split(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "test", 5, ("cat", "dog", "Cat"))
    report = check_images(tmp_path)
    assert report.refused == [
        "No image is in the train split for Cat (eval only); add images of the class to it, or remove the class."
    ]
    assert report.splits["eval"].labels == {"Cat": 5, "cat": 5, "dog": 5}


def test_a_class_with_one_picture_is_named(tmp_path: Path) -> None:
    write(fill(tmp_path) / "bird" / "a.png", 5)
    report = check_images(tmp_path)
    assert "1 class has one image: bird" in report.notes or "bird (" in report.refused[0]
    write(tmp_path / "bird" / "b.png", 6)
    write(tmp_path / "bird" / "c.png", 7)
    assert not any("one image" in note for note in check_images(tmp_path).notes)


def test_an_empty_split_and_a_single_class_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "few", 1)
    assert any(message.startswith("The split ") for message in check_images(tmp_path / "few").refused)
    fill(tmp_path / "single", 40, ("cat",))
    assert any("at least two" in message for message in check_images(tmp_path / "single").refused)


def test_copies_in_several_classes_or_splits_are_counted_and_named(tmp_path: Path) -> None:
    for part, count in (("train", 40), ("test", 10)):
        for label in ("cat", "dog"):
            for number in range(count):
                write(tmp_path / part / label / f"{number}.png", hash((part, label, number)) % 2**32)
    for name in ("train/dog/copy.png", "test/cat/copy.png"):
        (tmp_path / name).write_bytes((tmp_path / "train/cat/0.png").read_bytes())
    notes = check_images(tmp_path).notes
    assert any(note.startswith("1 images are in several classes with equal content: ") for note in notes)
    assert any(note.startswith("1 images are in several splits with equal content: ") for note in notes)


def test_conversions_and_wrong_suffixes_are_counted(tmp_path: Path) -> None:
    fill(tmp_path)
    write(tmp_path / "cat" / "a.webp", 1, (6, 5, 3), "WEBP")
    write(tmp_path / "cat" / "b.jpg", 2, (6, 5, 3), "WEBP")
    write(tmp_path / "cat" / "c.jpg", 3, (6, 5), "PNG")
    report = check_images(tmp_path)
    assert report.converted == {"WEBP to PNG": 2} and report.rows == 83
    assert "2 files have another format than their suffix: cat/b.jpg, cat/c.jpg; the content is read" in report.notes


@pytest.mark.parametrize("name", ["a/b", ".", "..", "", "@eaDir", "x" * 300, "new\nline"])
def test_a_label_that_cannot_be_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    labels = np.array([name, "cat"] * 40)
    np.savez(tmp_path / "images.npz", images=random_images(80, 4, 4), labels=labels)
    assert any(f"The class {name!r} " in message for message in check_images(tmp_path).refused)


def test_many_classes_are_not_counted_one_by_one(tmp_path: Path) -> None:
    labels = [f"class {number}" for number in range(30)] * 20
    np.savez(tmp_path / "images.npz", images=random_images(600, 4, 4), labels=labels)
    report = check_images(tmp_path)
    assert report.splits["train"].rows > 300 and not report.splits["train"].labels


# The command


def test_the_command_prints_the_account_and_returns_whether_a_run_would_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "data")
    (tmp_path / "data" / "cat" / "notes.docx").write_text("text")
    (tmp_path / "data" / "cat" / "plan.docx").write_text("text")
    (tmp_path / "data" / "cat" / ".hidden").write_text("text")
    assert commands.check_data("image", tmp_path, False, data=str(tmp_path / "data")) == 0
    printed = capsys.readouterr().out
    assert "80 images in 80 files" in printed
    assert "skipped 3 files: 1 hidden, 2 .docx not read" in printed
    assert "cat/notes.docx" in printed
    (tmp_path / "data" / "dog" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert commands.check_data("image", tmp_path, False, data=str(tmp_path / "data")) == 1
    assert "refused: dog/0.png: not an image that can be read" in capsys.readouterr().out


@pytest.mark.system
def test_a_run_with_a_damaged_file_ends_before_the_first_stage(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    path = tmp_path / "data" / "dog" / "0.png"
    path.write_bytes(path.read_bytes()[:-20])
    result = showcase("run", "image", "--data", tmp_path / "data", "--home", tmp_path / "home", "--tracking", "none")
    assert result.returncode != 0 and "dog/0.png: not an image that can be read (it is damaged" in result.stderr
    assert "Traceback" not in result.stderr and not (tmp_path / "home" / "image").exists()
    assert showcase("check", "image", "--data", tmp_path / "data", "--home", tmp_path / "home").returncode == 1
