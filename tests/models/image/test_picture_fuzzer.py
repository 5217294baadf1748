"""Random folders of pictures: every file is accounted for, and training and gateway see the same pixels."""

import os
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from support.pictures import check_images, decode_picture, read_rows

from benchmarks.odd_picture_check import check_picture_case, make_request_row
from benchmarks.odd_pictures import FORMATS, ORIENTED, draw_picture_case, encode_picture
from models.errors import DataError
from models.image import features
from models.image.raw.class_folders import list_images

SUFFIXES = (".png", ".jpg", ".JPEG", ".webp", ".gif", ".bmp", ".tif", ".avif", ".jp2", ".ppm", ".heic", ".dat", "")
CLASSES = ("cat", "Cat", "a,b", "[x]{y}", "train", "val", "東京", "Käfer", "Ka\u0308fer", "🐈 ", "%s\\", "-")
CLASSES += ("\udce4", "new\nline")
PARTS = ("train", "Training", "val", "valid", "validation", "test", "TESTING", "eval", "holdout")
JUNK = (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png", "notes.docx", "labels.csv", "LABELS", "archive.zip")
JUNK += ("@eaDir/0.png", "__MACOSX/._0.png", ".git/HEAD", ".ipynb_checkpoints/0.png", "sub/folder/0.txt", "empty.png")
EXTENT = (8, 6)


@st.composite
def picture_files(draw: st.DrawFn, damages: tuple[str, ...]) -> bytes:
    """An image file of any format, mode, size and orientation; cut, with a changed byte or trailing bytes."""
    format_ = draw(st.sampled_from(sorted(FORMATS)))
    mode = draw(st.sampled_from(FORMATS[format_]))
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    flat = draw(st.booleans())
    pixels = rng.integers(0, 256, (1, 1, 4) if flat else (height, width, 4)).astype(np.uint8)
    pixels = np.ascontiguousarray(np.broadcast_to(pixels, (height, width, 4)))
    is_turned = format_ in ORIENTED and draw(st.booleans())
    data = encode_picture(pixels, format_, mode, draw(st.integers(0, 9)) if is_turned else None)
    damage = draw(st.sampled_from(damages))
    position = draw(st.integers(0, len(data) - 1))
    if damage == "cut":
        return data[:position]
    if damage == "byte":
        return data[:position] + bytes([data[position] ^ draw(st.integers(1, 255))]) + data[position + 1 :]
    return data + b"trailing" * (damage == "more")


@st.composite
def folders(draw: st.DrawFn) -> dict[str, bytes | None]:
    """Contents of a folder by path; None for a link to nothing."""
    wrapper = draw(st.sampled_from(("", "", "archive/", "archive/data/", "span-003/")))
    parts = draw(st.sampled_from(((), (), (), ("train", "test"), ("mixed",))))
    if parts == ("mixed",):
        parts = tuple(draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=3, unique=True)))
    labels = draw(st.lists(st.sampled_from(CLASSES), min_size=1, max_size=3, unique=True))
    damages = draw(st.sampled_from((("none", "more"), ("none", "more"), ("none", "none", "cut", "byte"))))
    pool = draw(st.lists(picture_files(damages), min_size=1, max_size=8))
    most = draw(st.sampled_from((3, 20)))
    files: dict[str, bytes | None] = {}
    for part in parts or ("",):
        for label in labels:
            for number in range(draw(st.integers(0, most))):
                nested = draw(st.sampled_from(("", "", "", "", "nested/", "test/")))
                name = f"{nested}{number}{draw(st.sampled_from(SUFFIXES))}"
                files[f"{wrapper}{part}/{label}/{name}".lstrip("/").replace("//", "/")] = draw(st.sampled_from(pool))
    places = ["", wrapper, *(os.path.dirname(name) + "/" for name in files)]
    for name in draw(st.lists(st.sampled_from(JUNK), max_size=4)):
        place = draw(st.sampled_from(places))
        content = draw(st.sampled_from((b"", b"text", b"BMW is a car", b"\x89PNG\r\n\x1a\n", None)))
        files.setdefault(f"{place}{name}".replace("//", "/"), content)
    return files


def write_files(root: Path, files: dict[str, bytes | None]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.symlink_to(root / "nowhere")
        else:
            path.write_bytes(content)


def check_folder(files: dict[str, bytes | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        write_files(source, files)
        try:
            report = check_images(source, valid_share=0.3, eval_share=0.3)
        except DataError as error:
            assert "Traceback" not in str(error)
            return
        span = source / "span-003" if (source / "span-003").is_dir() else source
        given_files = sum(len(names) for _, _, names in os.walk(span))
        assert report.files_given == given_files, report.describe()
        assert sum(split.rows for split in report.splits.values()) == report.rows == report.files
        "\n".join([*report.describe(), report.error()]).encode()
        check_pixels(span, report.files, refused=bool(report.refused))


def check_pixels(span: Path, used: int, refused: bool) -> None:
    """Compare the rows of training with those of requests that send the same files."""
    served = {}
    for file in list_images(span).files:
        try:
            served[file.key] = make_request_row(file.path.read_bytes())
        except ValueError as error:
            assert str(error).startswith("image: ")
    try:
        rows = {row["key"]: row for row in read_rows(span)}
    except DataError:
        assert refused
        return
    assert len(rows) == used and rows.keys() <= served.keys()
    for key, row in rows.items():
        assert row["image"] == served[key]["image"]
        assert row["brightness"] == np.float32(served[key]["brightness"])
        assert row["contrast"] == np.float32(served[key]["contrast"]) and 0 <= row["contrast"] <= 0.5
    contents = [row["image"] for row in rows.values()]
    assert contents == [make_request_row(content)["image"] for content in contents]
    if contents:
        pixels = features.decode(tf.constant(contents)[:, None], (*EXTENT, 3)).numpy()
        assert np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1
        check_graph(contents)


def check_graph(contents: list[bytes]) -> None:
    """The graph decodes a file to Pillow's pixels, up to the rounding of two JPEG decoders."""
    for content in contents:
        pixels = decode_picture(content)
        decoded = tf.io.decode_image(content, expand_animations=False).numpy()
        assert decoded.shape[:2] == pixels.shape[:2]
        if content.startswith(b"\x89PNG"):
            np.testing.assert_array_equal(decoded.reshape(pixels.shape), pixels)


quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=quiet, database=None)
@given(folders())
def test_every_file_of_a_random_folder_is_accounted_for_and_has_equal_pixels_everywhere(
    files: dict[str, bytes | None],
) -> None:
    check_folder(files)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=quiet, database=None)
@given(folders())
def test_every_file_of_many_random_folders_is_accounted_for_and_has_equal_pixels_everywhere(
    files: dict[str, bytes | None],
) -> None:
    check_folder(files)


# Folders that are mostly as they should be, whose pictures, classes and splits are known.


def check_case(random: Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check_picture_case(draw_picture_case(random, Path(folder, "data")))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@seed(1)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.randoms(use_true_random=False))
def test_pictures_of_odd_folders_have_the_classes_and_splits_that_are_meant(random: Random) -> None:
    check_case(random)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@seed(2)
@settings(
    max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate], database=None
)
@given(st.randoms(use_true_random=True))
def test_pictures_of_many_odd_folders_have_the_classes_and_splits_that_are_meant(random: Random) -> None:
    check_case(random)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_most_cases_are_readable_and_the_others_hold_faults_and_damage() -> None:
    outcomes = Counter()
    for number in range(40):
        with tempfile.TemporaryDirectory() as folder:
            outcomes[check_picture_case(draw_picture_case(Random(number), Path(folder, "data")))] += 1
    assert outcomes.keys() == {"read", "refused", "damaged"} and outcomes["read"] > 20
