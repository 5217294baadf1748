"""Random folders of pictures in the layouts that people have, some with a fault or with damaged bytes."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from models.image.data import assign_splits

FORMATS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("1", "L", "P", "RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "TIFF": ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "LAB"),
    "AVIF": ("L", "RGB", "RGBA"),
    "JPEG2000": ("L", "RGB", "I;16"),
    "PPM": ("1", "L", "RGB", "I;16"),
}
ORIENTED = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")  # formats whose files may say how to turn them
SUFFIXES = (".png", ".jpg", ".JPEG", ".webp", ".gif", ".bmp", ".tif", ".avif", ".jp2", ".ppm", ".dat", "")
CLASSES = ("cat", "Cat", "dog", "a,b", "[x]{y}", "東京", "Käfer", "Ka\u0308fer", "🐈 ", "%s\\", "-", "0", "7")
WRAPPERS = ("", "", "", "archive", "archive/data", "span-003")
PARTS = {"train": ("train", "Training"), "valid": ("val", "valid", "DEV"), "test": ("test", "Testing", "eval")}
PART_SETS = ((), (), (), ("train", "test"), ("train", "valid"), ("train", "valid", "test"))
JUNK = (
    ".DS_Store",
    "Thumbs.db",
    "._0.png",
    "notes.docx",
    "labels.csv",
    "@eaDir/0.png",
    "__MACOSX/._0.png",
    ".git/HEAD",
)
FAULTS = (
    "text named as a picture",
    "HEIC",
    "half a picture",
    "one class",
    "class without a picture",
    "class name",
    "empty file",
)
SETTINGS = {"valid_share": 0.3, "eval_share": 0.3}
POOL, SIDE = 300, 12  # number of different pictures, as encoding is most of the work; largest side in pixels


@dataclass
class PictureCase:
    """A folder of pictures and what reading it has to give.

    Attributes:
        source: The folder.
        files: Number of files in it.
        pictures: Content, class and split of each picture by span folder and key.
        fault: What has to be refused; empty if every picture has to be read.
        damaged: Whether bytes of a picture were changed at random, so that anything but a crash is right.
    """

    source: Path
    files: int = 0
    pictures: dict[tuple[Path, str], tuple[bytes, str, str]] = field(default_factory=dict)
    fault: str = ""
    damaged: bool = False

    @property
    def splits(self) -> Counter[str]:
        """Number of pictures in each split."""
        return Counter(split for _, _, split in self.pictures.values())

    def write(self, path: Path, content: bytes) -> None:
        """Write a file of the folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.files += 1


def draw_picture_case(random: Random, folder: Path) -> PictureCase:
    """Write a random case to a folder that is empty or does not exist."""
    case = PictureCase(folder)
    case.fault = random.choice(FAULTS) if random.random() < 0.15 else ""
    wrapper = random.choice(WRAPPERS)
    spans = [folder / "span-000", folder / "span-001"] if random.random() < 0.15 else [folder]
    labels = random.sample(CLASSES, random.randint(2, 3))
    labels = labels[:1] if case.fault == "one class" else labels
    if len({unicodedata.normalize("NFC", label) for label in labels}) == 1:
        labels = ["cat", "dog"] if case.fault != "one class" else labels
    parts = random.choice(PART_SETS)
    for span in spans:
        inner = wrapper if len(spans) == 1 or not wrapper.startswith("span") else ""
        span_folder = folder / "span-003" if inner.startswith("span") else span
        _fill_span(random, case, span_folder, span_folder if inner.startswith("span") else span / inner, parts, labels)
    if case.fault:
        _add_fault(random, case, random.choice(list(case.pictures)))
    elif random.random() < 0.1:
        _damage(random, case)
    return case


def _fill_span(
    random: Random, case: PictureCase, span: Path, root: Path, parts: tuple[str, ...], labels: list[str]
) -> None:
    """Write the pictures of a span to ``root``, the folder of its parts or classes."""
    names = {part: random.choice(PARTS[part]) for part in parts}
    inside = random.random() < 0.25  # parts lie in the class folders
    for number, label in enumerate(labels):
        splits = ["train", *(("valid", "eval") if not number else ()), *random.choices(("train", "valid", "eval"), k=2)]
        for split in splits:
            part = _choose_part(random, parts, split)
            place = PurePosixPath(*((label, names[part]) if inside else (names[part], label)) if part else (label,))
            if not part and random.random() < 0.15:
                place /= random.choice(("nested", "a/b"))
            content = random.choice(make_pictures())
            # PPM begins with a letter and a digit, so that only its suffix tells it from text.
            suffixes = SUFFIXES[:-2] if content.startswith(b"P") else SUFFIXES
            keys = _draw_names(random, str(place), suffixes, _row_part(part, parts), split)
            key = next(key for key in keys if (span, key) not in case.pictures)
            case.write(root / key, content)
            case.pictures[span, key] = content, unicodedata.normalize("NFC", label), split
    folders = [root, *{(root / key).parent for folder, key in case.pictures if folder == span}]
    for name in random.sample(JUNK, random.choice((0, 0, 1, 3))):
        case.write(random.choice(sorted(folders)) / name, b"x")


def _choose_part(random: Random, parts: tuple[str, ...], split: str) -> str:
    """Return the official part that gives rows to a split; without a test part the valid part is the one held out."""
    if not parts:
        return ""
    held_out = "test" if "test" in parts else "valid"
    return {"train": "train", "valid": "valid" if len(parts) == 3 else "train", "eval": held_out}[split]


def _row_part(part: str, parts: tuple[str, ...]) -> str:
    """Return the part of a row; see ``models.image.raw.class_folders.resolve_parts``."""
    if part == "train":
        return "only train" if len(parts) == 3 else "train"
    return "test" if part == "valid" and "test" not in parts else part


def _draw_names(random: Random, place: str, suffixes: tuple[str, ...], row_part: str, split: str) -> Iterator[str]:
    """Draw keys in a folder until their rows, by their part or by a hash of the key, are in the split."""
    while True:
        key = f"{place}/{random.randint(0, 9999)}{random.choice(suffixes)}"
        if assign_splits([key], [row_part], SETTINGS)[0] == split:
            yield key


def _add_fault(random: Random, case: PictureCase, place: tuple[Path, str]) -> None:
    folder = _find_file(case, place).parent
    contents: dict[str, Callable[[], tuple[Path, bytes]]] = {
        "text named as a picture": lambda: (folder / "text.png", b"text"),
        "HEIC": lambda: (folder / "photo.heic", b"\0\0\0\x18ftypheic"),
        "half a picture": lambda: (folder / "half.png", encode_picture(_noise(random, 8, 8), "PNG", "RGB")[:-30]),
        "empty file": lambda: (folder / "empty.png", b""),
        "class without a picture": lambda: (_find_class_folder(case, place) / "only-text" / "a.txt", b"text"),
        "class name": lambda: (_find_class_folder(case, place) / "new\nline" / "a.png", make_pictures()[0]),
    }
    if case.fault in contents:
        case.write(*contents[case.fault]())


def _find_file(case: PictureCase, place: tuple[Path, str]) -> Path:
    span, key = place
    return next(path for path in span.rglob(PurePosixPath(key).name) if path.as_posix().endswith(key))


def _find_class_folder(case: PictureCase, place: tuple[Path, str]) -> Path:
    """Return the folder that holds the folder of a picture's class, in its part if it is in one."""
    _, label, _ = case.pictures[place]
    path = _find_file(case, place)
    return next(parent for parent in path.parents if unicodedata.normalize("NFC", parent.name) == label).parent


def _damage(random: Random, case: PictureCase) -> None:
    """Cut a picture off, or change one of its bytes."""
    place = random.choice(list(case.pictures))
    data = bytearray(case.pictures[place][0])
    position = random.randrange(len(data))
    if random.random() < 0.5:
        del data[position:]
    else:
        data[position] ^= random.randint(1, 255)
    _find_file(case, place).write_bytes(bytes(data))
    case.damaged = True


# Pictures.


@cache
def make_pictures() -> tuple[bytes, ...]:
    """Return small pictures of all formats, modes and orientations, always the same."""
    random, kinds = Random(0), [(format_, mode) for format_, modes in FORMATS.items() for mode in modes]
    return tuple(_draw_picture(random, *kinds[number % len(kinds)]) for number in range(POOL))


def _draw_picture(random: Random, format_: str, mode: str) -> bytes:
    height, width = random.randint(1, SIDE), random.randint(1, SIDE)
    pixels = _noise(random, *((1, 1) if random.random() < 0.2 else (height, width)))
    pixels = np.ascontiguousarray(np.broadcast_to(pixels, (height, width, 4)))
    orientation = random.randint(0, 9) if format_ in ORIENTED and random.random() < 0.5 else None
    return encode_picture(pixels, format_, mode, orientation) + b"trailing" * (random.random() < 0.1)


def _noise(random: Random, height: int, width: int) -> np.ndarray:
    return np.frombuffer(random.randbytes(height * width * 4), np.uint8).reshape(height, width, 4)


def encode_picture(pixels: np.ndarray, format_: str, mode: str, orientation: int | None = None) -> bytes:
    """Encode RGBA pixels as a file of a format, with pixels of one of its modes, and with an EXIF orientation if given."""
    image = Image.fromarray(pixels).convert("RGB" if mode == "LAB" else "RGBA" if mode in ("LA", "RGBA") else "RGB")
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif mode == "LA":
        image = Image.merge("LA", (image.getchannel(0), image.getchannel(3)))
    elif mode != image.mode:
        image = image.convert(mode)
    options: dict[str, Any] = {}
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    stream = BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()
