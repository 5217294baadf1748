"""Layouts of folders of classes: which files are images of which class and part, and what becomes of all others."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pictures import check_images, encode_image, random_images, read_rows

from models.errors import DataError
from models.image.case import CASE
from models.image.data import assign_splits, check
from models.image.raw.class_folders import list_images
from models.spans import digest_spans

SHARES = {"valid_share": 0.1, "eval_share": 0.2}


def fill(folder: Path, count: int, start: int = 0, suffix: str = ".png") -> None:
    """Write different images, so that none is a copy of another."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        image = Image.fromarray(
            np.random.default_rng([number, *folder.name.encode()]).integers(0, 256, (5, 6), np.uint8)
        )
        (folder / f"{number}{suffix}").write_bytes(encode_image(image, "PNG"))


def count_splits(span: Path) -> dict[tuple[str, str], set[str]]:
    """For each official part, as the folders' names, the splits that its rows are in."""
    splits: dict[tuple[str, str], set[str]] = {}
    rows = read_rows(span)
    assigned = assign_splits([row["key"] for row in rows], [row["part"] for row in rows], SHARES)
    for row, split in zip(rows, assigned, strict=True):
        splits.setdefault(row["key"].split("/")[0], set()).add(str(split))
    return splits


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("train", "val"), [{"train", "valid"}, {"eval"}]),
        (("train", "validation"), [{"train", "valid"}, {"eval"}]),
        (("train", "test"), [{"train", "valid"}, {"eval"}]),
        (("Training", "Testing"), [{"train", "valid"}, {"eval"}]),
        (("TRAIN", "Eval"), [{"train", "valid"}, {"eval"}]),
        (("train", "valid", "test"), [{"train"}, {"valid"}, {"eval"}]),
        (("Train", "Val", "Test"), [{"train"}, {"valid"}, {"eval"}]),
        (("training", "dev", "evaluation"), [{"train"}, {"valid"}, {"eval"}]),
    ],
)
@pytest.mark.parametrize("wrapper", ["", "archive", "archive/data"])
def test_official_parts_are_used_as_what_they_are(
    tmp_path: Path, parts: tuple[str, ...], expected: list[set[str]], wrapper: str
) -> None:
    for part in parts:
        for label in ("cat", "dog"):
            fill(tmp_path / wrapper / part / label, 40)
    assert count_splits(tmp_path) == dict(zip(parts, expected, strict=True))
    report = check_images(tmp_path)
    assert not report.refused and not report.skipped and report.files_given == report.files == 80 * len(parts)
    sizes = [split.rows for split in report.splits.values()]
    assert sum(sizes) == 80 * len(parts) and min(sizes) > 0
    (note,) = [note for note in report.notes if note.startswith("official parts: ")]
    assert all(
        f"{part} is used as {'eval' if use == {'eval'} else ''}" in note
        for part, use in zip(parts, expected, strict=True)
    )


def test_a_wrapper_does_not_change_the_splits(tmp_path: Path) -> None:
    for root in (tmp_path / "plain", tmp_path / "wrapped" / "archive" / "data"):
        for label in ("cat", "dog"):
            fill(root / label, 30)
    plain, wrapped = read_rows(tmp_path / "plain"), read_rows(tmp_path / "wrapped")
    assert [(row["key"], row["part"]) for row in plain] == [(row["key"], row["part"]) for row in wrapped]


def test_a_train_folder_alone_is_split_by_hash(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        fill(tmp_path / "train" / label, 60)
    assert {row["part"] for row in read_rows(tmp_path)} == {""}
    assert min(split.rows for split in check_images(tmp_path).splits.values()) > 0


def test_parts_may_lie_in_the_class_folders(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        fill(tmp_path / label / "train", 40)
        fill(tmp_path / label / "test", 10, 100)
    report = check_images(tmp_path)
    assert report.settings["classes"] == ["cat", "dog"] and report.splits["eval"].rows == 20
    assert any("test is used as eval" in note for note in report.notes)


def test_a_class_may_be_called_train_and_have_subfolders(tmp_path: Path) -> None:
    fill(tmp_path / "train", 30)
    fill(tmp_path / "car" / "red", 15)
    fill(tmp_path / "car" / "blue" / "dark", 15)
    report = check_images(tmp_path)
    assert report.settings["classes"] == ["car", "train"] and report.rows == 60 and not report.refused
    assert "images in subfolders have the class of the upper folder: car/blue/dark, car/red" in report.notes


def test_an_image_beside_a_wrapper_does_not_make_it_a_class(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        fill(tmp_path / "archive" / label, 30)
    fill(tmp_path, 1)
    report = check_images(tmp_path)
    assert report.settings["classes"] == ["cat", "dog"] and report.skipped == {"outside the class folders": ["0.png"]}


def test_paths_in_the_report_name_the_span(tmp_path: Path) -> None:
    for span in ("span-000", "span-001"):
        for label in ("cat", "dog"):
            fill(tmp_path / span / label, 30)
        (tmp_path / span / "cat" / "a.txt").write_text("no image")
    paths = [f"{span}/cat/a.txt" for span in ("span-000", "span-001")]
    assert check_images(tmp_path).skipped == {".txt not read": paths}


def test_system_and_hidden_files_are_no_classes_and_are_counted(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        fill(tmp_path / label, 30)
    junk = ["@eaDir/a.png", "__MACOSX/cat/._0.png", ".ipynb_checkpoints/x.png", "cat/Thumbs.db", "cat/desktop.ini"]
    junk += ["cat/@eaDir/0.png/thumb.jpg", "dog/.DS_Store"]
    hidden = [".git/HEAD", "cat/._0.png"]
    for name in (*junk, *hidden):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encode_image(Image.fromarray(random_images(4, 4)), "PNG"))
    (tmp_path / "cat" / "notes.docx").write_text("text")
    (tmp_path / "cat" / "labels").write_text("text")
    (tmp_path / "readme.txt").write_text("text")
    report = check_images(tmp_path)
    assert report.settings["classes"] == ["cat", "dog"] and report.files == 60 and not report.refused
    assert {reason: sorted(paths) for reason, paths in report.skipped.items()} == {
        "system": sorted(junk),
        "hidden": sorted(hidden),
        ".docx not read": ["cat/notes.docx"],
        "without a suffix not read": ["cat/labels"],
        "outside the class folders": ["readme.txt"],
    }
    assert report.files_given == 60 + len(junk) + len(hidden) + 3


def test_images_of_no_class_or_part_are_skipped_by_name_or_refused(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        fill(tmp_path / "train" / label, 40)
        fill(tmp_path / "old" / "data" / label, 2)
    fill(tmp_path / "test", 3)
    fill(tmp_path / "train", 2)
    fill(tmp_path / "bird", 4)
    report = check_images(tmp_path)
    assert {reason: len(paths) for reason, paths in report.skipped.items()} == {
        "outside the class folders": 2,
        "in a part without class folders": 3,
        "beside the parts train": 4,
    }
    assert report.files_refused == 4 and "bird/0.png" in report.refused[0] and "beside the parts" in report.refused[0]
    assert report.files_given == 80 + 9 + 4


def test_a_class_whose_files_are_no_images_is_refused_and_an_empty_one_is_named(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        fill(tmp_path / label, 30)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bird").mkdir()
    (tmp_path / "bird" / "a.txt").write_text("no image")
    report = check_images(tmp_path)
    assert report.settings["classes"] == ["cat", "dog"]
    assert "class folders without files are left out: empty" in report.notes
    assert report.refused == ["bird: none of the 1 files in this class folder is an image; add images or remove it."]


@pytest.mark.parametrize("suffix", [".heic", ".psd", ".png", ".jpg", ".tif", ".avif"])
def test_a_file_that_claims_to_be_an_image_and_is_none_is_refused(tmp_path: Path, suffix: str) -> None:
    for label in ("cat", "dog"):
        fill(tmp_path / label, 30)
    (tmp_path / "cat" / f"x{suffix}").write_bytes(b"anything else")
    report = check_images(tmp_path)
    assert report.refused and f"cat/x{suffix}: not an image that can be read" in report.refused[0]
    assert (report.files, report.files_refused, report.files_given) == (60, 1, 61)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("suffix", ["", ".dat", ".heic"])
def test_an_image_is_read_by_its_content_whatever_its_suffix(tmp_path: Path, format_: str, suffix: str) -> None:
    for label in ("cat", "dog"):
        fill(tmp_path / label, 30)
    (tmp_path / "cat" / f"x{suffix}").write_bytes(encode_image(Image.fromarray(random_images(5, 6, 3)), format_))
    report = check_images(tmp_path)
    assert report.files == 61 and not report.refused and not report.skipped
    assert f"cat/x{suffix}" in [row["key"] for row in read_rows(tmp_path)]


def test_both_unicode_forms_of_a_name_are_one_class(tmp_path: Path) -> None:
    name = "Käfer, [groß] 東京"
    fill(tmp_path / unicodedata.normalize("NFC", name), 30)
    fill(tmp_path / unicodedata.normalize("NFD", name), 30, 50)
    fill(tmp_path / "a,b", 30)
    report = check_images(tmp_path)
    assert report.settings["classes"] == sorted([unicodedata.normalize("NFC", name), "a,b"])
    assert report.rows == 90 and not report.refused
    assert any("different Unicode forms are one class" in note for note in report.notes)
    assert {row["label"] for row in read_rows(tmp_path)} == set(report.settings["classes"])


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        fill(tmp_path / label, 30)
    (tmp_path / "cat" / "0.png").rename(tmp_path / "cat" / "\udcff.png")
    report = check_images(tmp_path)
    assert report.refused == [r"cat/\udcff.png: the name is not UTF-8; rename it."]
    "\n".join(report.describe()).encode()


def test_links_are_followed_but_not_around_in_a_circle(tmp_path: Path) -> None:
    span, other = tmp_path / "span", tmp_path / "other"
    fill(span / "cat", 30)
    fill(other / "dog", 30)
    (span / "dog").symlink_to(other / "dog")
    (span / "cat" / "link.png").symlink_to(other / "dog" / "0.png")
    (span / "cat" / "again").symlink_to(span)
    (span / "cat" / "lost.png").symlink_to(tmp_path / "nothing")
    report = check_images(span)
    assert report.rows == 61 and not report.refused and report.settings["classes"] == ["cat", "dog"]
    assert report.skipped == {"link to a folder above it": ["cat/again"], "no regular file": ["cat/lost.png"]}
    before = digest_spans([span])
    fill(other / "dog", 1, 99)
    assert digest_spans([span]) != before


@pytest.mark.parametrize("name", ["cat/_DSC0001.JPG", "_unknown/1.png", "_unknown/a/1.PNG"])
def test_pictures_with_an_underscore_are_used_and_are_part_of_the_version(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "cat", 3)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "cat" / "0.png").rename(tmp_path / name)
    assert tmp_path / name in [file.path for file in list_images(tmp_path).files]
    before = digest_spans([tmp_path])
    (tmp_path / name).write_bytes((tmp_path / "cat" / "1.png").read_bytes())
    assert digest_spans([tmp_path]) != before


@pytest.mark.parametrize("wrapper", ["", "cat"])
def test_parts_without_class_folders_are_no_classes(tmp_path: Path, wrapper: str) -> None:
    for part in ("train", "test"):
        fill(tmp_path / wrapper / part, 40)
    assert "The folders test, train hold no class folders" in check_images(tmp_path).refused[0]


def test_parts_without_class_folders_are_no_classes_beside_a_span_with_classes(tmp_path: Path) -> None:
    fill(tmp_path / "span-000" / "train" / "dog", 20)
    fill(tmp_path / "span-000" / "test" / "dog", 20, 20)
    for part in ("train", "test"):
        fill(tmp_path / "span-001" / "dog" / part, 20, 40)
    spans = {n: tmp_path / f"span-00{n}" for n in (0, 1)}
    report = check(spans, {**CASE.settings["data"], **SHARES})
    assert any("The folders test, train hold no class folders" in message for message in report.refused)


def test_spans_in_a_wrapper_are_no_classes(tmp_path: Path) -> None:
    for span in ("span-000", "span-001"):
        fill(tmp_path / "archive" / span / "cat", 40)
    assert "The class 'span-000' is the name of a span; give the folder" in check_images(tmp_path).refused[0]


def test_a_folder_of_images_without_classes_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    with pytest.raises(DataError, match="contains no images; expected"):
        check_images(tmp_path)
    fill(tmp_path / "sub" / "images", 3)
    assert any("at least two" in message for message in check_images(tmp_path / "sub").refused)
