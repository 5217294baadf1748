"""Read raw images as Arrow batches, from NumPy archives, IDX files or folders of classes."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from models.errors import DataError
from models.image.raw.arrays import ARCHIVE, Group, read_archive, read_groups
from models.image.raw.png import encode_pngs

COLUMNS = pa.schema(
    {
        "image": pa.binary(),
        "label": pa.string(),
        "part": pa.string(),
        "key": pa.string(),
        "brightness": pa.float32(),
        "contrast": pa.float32(),
    }
)
ROWS = 4096
# Photographs are large, so the size of a batch of files is limited, too; this bounds the memory.
BATCH_BYTES = 64 << 20
LARGEST = 64
SAMPLE = 16
EXPECTED = "span-NNN folders, images.npz, IDX files (train-images-idx3-ubyte.gz, …), or one folder of images per class"
PASSED = ("PNG", "JPEG", "MPO")  # MPO is a format of cameras: a JPEG followed by a second image.
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp"}
PARTS = {"train": "train", "test": "test", "eval": "test", "val": "test"}
IDX = {"train": "train", "t10k": "test"}
DOWNLOAD_SECONDS = 10.0


def spans(source: Path) -> dict[int, Path]:
    """Return the ``span-NNN`` folders of ``source`` by number, or ``source`` itself as span 0.

    Raises:
        DataError: if the folder is missing, empty, unreadable or has other contents.
    """
    names = [(re.fullmatch(r"span-(\d+)", path.name), path) for path in _list_folders(source)]
    numbered = [(int(match[1]), path) for match, path in names if match]
    by_number = dict(numbered) or {0: source}
    if len(by_number) < len(numbered):
        raise DataError(f"{source} has two folders for one span number; keep one of each.")
    for path in by_number.values():
        _storage_format(path)
    return dict(sorted(by_number.items()))


def read(span: Path) -> Iterator[pa.RecordBatch]:
    """Yield all images of a span in batches of at most ``ROWS`` rows with ``COLUMNS``.

    JPEG and PNG files are passed on unchanged; other formats are encoded as PNG. ``part`` is 'train' or 'test' if the
    source has an official split, else ''. ``key`` is stable across reads. ``brightness`` and ``contrast`` are mean and
    standard deviation of the pixels in 0…1.

    Raises:
        DataError: names the file that is damaged or inconsistent with the others.
    """
    if _storage_format(span) == "folders":
        yield from _file_batches(span)
        return
    for group in read_groups(span):
        step = min(ROWS, max(1, BATCH_BYTES // group.images[0].nbytes))
        for start in range(0, len(group.images), step):
            yield _array_batch(group, start, start + step)


def shape(span: Path) -> tuple[int, int, int]:
    """Return height, width and channels of a span's images.

    For class folders the size is that of the first image, with sides of at most ``LARGEST``, and there is one channel if all
    images of a sample are grey.
    """
    if _storage_format(span) != "folders":
        height, width, channels = (int(size) for size in read_groups(span)[0].images.shape[1:])
        return height, width, channels
    files = [path for path, _, _ in _list_files(span)]
    sample = [_open_image(path) for path in files[:: max(1, len(files) // SAMPLE)][:SAMPLE]]
    width, height = sample[0].size
    return min(height, LARGEST), min(width, LARGEST), 1 if all(_is_grey(image) for image in sample) else 3


def classes(span: Path) -> list[str]:
    """Return all labels of a span, sorted as text, including those of an archive's own list of classes."""
    if _storage_format(span) == "folders":
        return sorted({label for _, label, _ in _list_files(span)})
    labels_by_group = [np.unique(group.labels) for group in read_groups(span)]
    if _storage_format(span) == "archive":
        labels_by_group.append(read_archive(span / ARCHIVE, "classes").get("classes", np.empty(0)).astype(str))
    return sorted({str(label) for labels in labels_by_group for label in labels})


def _list_children(path: Path) -> list[Path]:
    """Return files and folders in order of their names, without hidden ones."""
    try:
        return sorted(child for child in path.iterdir() if not child.name.startswith("."))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); expected a folder with {EXPECTED}.") from error


def _list_folders(path: Path) -> list[Path]:
    return [child for child in _list_children(path) if child.is_dir()]


def _storage_format(span: Path) -> str:
    folders = _list_folders(span)
    if (span / ARCHIVE).exists():
        return "archive"
    if any(span.glob("*-idx3-ubyte*")):
        return "idx"
    if folders and any(True for _ in _list_files(span)):
        return "folders"
    raise DataError(f"{span} contains no images; expected {EXPECTED}.")


def _array_batch(group: Group, start: int, stop: int) -> pa.RecordBatch:
    images, labels = group.images[start:stop], group.labels[start:stop]
    pixels = images.reshape(len(images), -1).astype(np.float32) / 255
    prefix = group.part + "/" if group.part else ""
    keys = [f"{prefix}{number:05d}" for number in range(start, start + len(images))]
    return _batch(encode_pngs(images), labels, [group.part] * len(images), keys, pixels.mean(1), pixels.std(1))


def _batch(*columns: Sequence[Any] | np.ndarray) -> pa.RecordBatch:
    return pa.record_batch(
        [pa.array(column, type_) for column, type_ in zip(columns, COLUMNS.types, strict=True)], schema=COLUMNS
    )


def _list_files(span: Path) -> Iterator[tuple[Path, str, str]]:
    """Yield path, label and part of each image file in class folders, in order of their names."""
    split = [folder for folder in _list_folders(span) if folder.name in PARTS and _list_folders(folder)]
    roots = [(folder, PARTS[folder.name]) for folder in split] or [(span, "")]
    for root, part in roots:
        for folder in _list_folders(root):
            for path in _list_children(folder):
                if path.suffix.lower() in SUFFIXES:
                    yield path, folder.name, part


def _file_batches(span: Path) -> Iterator[pa.RecordBatch]:
    rows, size = [], 0
    for path, label, part in _list_files(span):
        content, pixels = _read_content(path)
        rows.append((content, label, part, path.relative_to(span).as_posix(), pixels.mean(), pixels.std()))
        size += len(content)
        if len(rows) == ROWS or size >= BATCH_BYTES:
            yield _batch(*zip(*rows, strict=True))
            rows, size = [], 0
    if rows:
        yield _batch(*zip(*rows, strict=True))


def _read_content(path: Path) -> tuple[bytes, np.ndarray]:
    """Return a file's bytes and its pixels in 0…1; contents that are neither PNG nor JPEG are encoded as PNG."""
    image = _open_image(path)
    if image.mode.startswith("I"):
        pixels = np.asarray(image, np.float32) / 65535
    else:
        pixels = np.asarray(image.convert("L" if _is_grey(image) else "RGB"), np.float32) / 255
    if image.format in PASSED:
        return path.read_bytes(), pixels
    return encode_pngs(np.rint(pixels * 255).astype(np.uint8).reshape(1, *pixels.shape[:2], -1))[0], pixels


def _open_image(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and its own exceptions.
        raise DataError(f"{path} is not an image that can be read ({error}); replace or remove it.") from error


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA") or image.mode.startswith("I")
