"""Each rule of the table of images in docs/data.md, by examples of its input."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.pictures import check_images, encode_idx, encode_image

from models.errors import DataError
from models.image.raw.conversion import LONGEST_SIDE
from models.image.raw.rules import RULES

Builder = Callable[[Path], Any]
GREY = np.random.default_rng(3).integers(0, 256, (40, 8, 8), np.uint8)
LABELS = np.array(["cat", "dog"] * 20)


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def file(name: str, content: bytes = b"x") -> Builder:
    return lambda folder: write(folder / name, content)


def image(
    name: str, mode: str = "RGB", format_: str = "PNG", size: tuple[int, int] = (8, 8), **options: Any
) -> Builder:
    return lambda folder: write(folder / name, encode_image(Image.new(mode, size), format_))


def move(*parts: str) -> Builder:
    """Return what moves the class folders into parts, all of the second class and half of the first into the first part."""

    def build(folder: Path) -> None:
        for number, path in enumerate(sorted(folder.glob("*/*.png"))):
            target = folder / parts[number % len(parts)] / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        for name in ("cat", "dog"):
            (folder / name).rmdir()

    return build


def replace_by_arrays(folder: Path) -> None:
    remove(folder)
    np.savez(folder / "images.npz", images=GREY, labels=LABELS)


def replace_by_idx(folder: Path) -> None:
    remove(folder)
    write(folder / "train-images-idx3-ubyte", encode_idx(GREY, 3))
    write(folder / "train-labels-idx1-ubyte", encode_idx(np.arange(40, dtype=np.uint8) % 2, 1))


def remove(folder: Path, pattern: str = "*/*") -> None:
    for path in folder.glob(pattern):
        path.unlink()
    for name in ("cat", "dog"):
        if (folder / name).exists() and not any((folder / name).iterdir()):
            (folder / name).rmdir()


def turned() -> bytes:
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


SAME = encode_image(Image.fromarray(GREY[0]), "PNG")

# Writers of examples into a good source, in the order of the rules.
EXAMPLES: list[list[Builder]] = [
    [image("cat/deep/x.png")],
    [replace_by_arrays, replace_by_idx],
    [move("archive"), move("archive/data")],
    [move("train", "train", "train", "test")],
    [move("train", "train", "test")],
    [move("train", "train", "val"), move("train", "train", "valid", "test")],
    [move("train")],
    [image("cat/x.jpg"), image("cat/without_suffix", format_="JPEG")],
    [image("cat/.x.png")],
    [file("cat/Thumbs.db"), file("cat/__MACOSX/x.png")],
    [file("cat/notes.txt")],
    [file("readme.md"), lambda folder: (folder / "cat" / "x.png").symlink_to(folder / "nothing")],
    [file("cat/x.png"), file("cat/x.heic"), file("cat/x.jpg", encode_image(Image.new("L", (9, 9)), "JPEG")[:150])],
    [image("cat/x.png", "L", size=(LONGEST_SIDE + 1, 1))],
    [lambda folder: (move("train", "test")(folder), image("bird/x.png")(folder))],
    [image("cat/x.png", "L"), image("cat/x.jpg")],
    [image("cat/x.webp", format_="WEBP"), image("cat/x.png", "P"), image("cat/x.jpg", "CMYK", "JPEG"), image("cat/x.png", "1")],
    [image("cat/x.png", "RGBA")],
    [file("cat/x.jpg", turned())],
    [image("cat/x.png", "L", size=(3000, 1600))],
    [image("cat/x.tif", "F", "TIFF")],
    [lambda folder: (image("cafe\u0301/x.png")(folder), image("caf\u00e9/y.png")(folder), *fill(folder, "caf\u00e9"))],
    [lambda folder: (file("cat/x.png", SAME)(folder), file("dog/x.png", SAME)(folder))],
    [image("bird/0.png"), lambda folder: (folder / "bird").mkdir()],
    [lambda folder: remove(folder, "dog/*")],
    [lambda folder: fill(folder, "new\nline"), lambda folder: move("archive/span-1", "archive/span-2")(folder)],
    [file("bird/notes.txt")],
]  # fmt: skip


def fill(folder: Path, *labels: str) -> list[None]:
    pixels = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), 40, 8, 8), np.uint8)
    return [
        write(folder / label / f"{number}.png", encode_image(Image.fromarray(values[number]), "PNG"))
        for label, values in zip(labels, pixels, strict=True)
        for number in range(40)
    ]


def find_treatment(folder: Path) -> str:
    try:
        report = check_images(folder)
    except DataError:
        return "refused"
    outcomes = {"refused": report.refused, "skipped": report.skipped, "converted": report.converted}
    return next((name for name, values in outcomes.items() if values), "used")


@pytest.mark.parametrize(
    ("rule", "examples"), list(zip(RULES, EXAMPLES, strict=True)), ids=lambda value: getattr(value, "given", "")
)
def test_input_is_treated_as_the_rule_says(tmp_path: Path, rule: Any, examples: list[Builder]) -> None:
    for number, build in enumerate(examples):
        source = tmp_path / str(number)
        fill(source, "cat", "dog")
        assert find_treatment(source) == "used"
        build(source)
        assert find_treatment(source) == rule.treatment, rule
