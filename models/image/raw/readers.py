"""Read raw images as Arrow batches, from NumPy archives, IDX files or folders of classes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from models.errors import DataError
from models.image.raw import class_folders, folder_contents
from models.image.raw.arrays import Group, has_arrays, read_groups
from models.image.raw.conversion import MOST_BYTES, convert, describe_size
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
EXPECTED = "span-NNN folders, images.npz, IDX files (train-images-idx3-ubyte.gz, …), or one folder of images per class"


def read(span: Path) -> Iterator[pa.RecordBatch]:
    """Yield all images of a span in batches of at most ``ROWS`` rows with ``COLUMNS``.

    Files are converted to what the graph decodes, see :mod:`models.image.raw.conversion`; files that are no images are
    left out. ``part`` is 'train', 'only train', 'valid' or 'test' if the source has an official split, else ''; see
    :func:`models.image.raw.class_folders.resolve_parts`. ``key`` is stable across reads. ``brightness`` and ``contrast``
    are mean and standard deviation of the pixels in 0…1.

    Raises:
        DataError: names the file that is damaged or inconsistent with the others.
    """
    root = class_folders.find_root(span)
    if not has_arrays(root):
        yield from _file_batches(span)
        return
    for group, part in read_parts(root):
        step = min(ROWS, max(1, BATCH_BYTES // group.images[0].nbytes))
        for start in range(0, len(group.images), step):
            yield _array_batch(group, part, start, start + step)


def read_parts(root: Path) -> list[tuple[Group, str]]:
    """Read the arrays of a folder as groups, each with the part of its rows.

    Raises:
        DataError: names the file that is damaged or inconsistent with the others.
    """
    groups = read_groups(root)
    parts = class_folders.resolve_parts({group.part for group in groups})
    return [(group, parts.get(group.part, group.part)) for group in groups]


def create_missing_error(span: Path) -> DataError:
    """Create the error about a span that has neither arrays nor a folder with an image."""
    return DataError(f"{folder_contents.escape_name(span)} contains no images; expected {EXPECTED}.")


def read_file(path: Path) -> bytes:
    """Read an image file.

    Raises:
        ValueError: if it is too large.
        OSError: if it cannot be read.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(describe_size(size))
    return path.read_bytes()


def describe_fault(error: Exception) -> str:
    """Return the message about an image file that cannot be read."""
    if isinstance(error, UnicodeEncodeError):
        return "the name is not UTF-8; rename it."
    return f"not an image that can be read ({getattr(error, 'strerror', None) or error}); replace or remove it."


def array_keys(group: Group, start: int, stop: int) -> list[str]:
    """Return the keys of the rows from ``start`` to ``stop``."""
    prefix = group.part + "/" if group.part else ""
    return [f"{prefix}{number:05d}" for number in range(start, min(stop, len(group.images)))]


def _array_batch(group: Group, part: str, start: int, stop: int) -> pa.RecordBatch:
    images, labels = group.images[start:stop], group.labels[start:stop]
    pixels = images.reshape(len(images), -1).astype(np.float32) / 255
    # Rounding may exceed the largest possible standard deviation.
    contrast = np.minimum(pixels.std(1), 0.5)
    keys = array_keys(group, start, stop)
    return _batch(encode_pngs(images), labels, [part] * len(images), keys, pixels.mean(1), contrast)


def _batch(*columns: Sequence[Any] | np.ndarray) -> pa.RecordBatch:
    return pa.record_batch(
        [pa.array(column, type_) for column, type_ in zip(columns, COLUMNS.types, strict=True)], schema=COLUMNS
    )


def _file_batches(span: Path) -> Iterator[pa.RecordBatch]:
    rows, size = [], 0
    files = [file for file in class_folders.list_images(span).files if folder_contents.is_image(file.path)]
    if not files:
        raise create_missing_error(span)
    for file in files:
        try:
            file.key.encode()
            image = convert(read_file(file.path))
        except (OSError, ValueError) as error:
            raise DataError(f"{folder_contents.escape_name(file.path)}: {describe_fault(error)}") from error
        rows.append((image.content, file.label, file.part, file.key, image.brightness, image.contrast))
        size += len(image.content)
        if len(rows) == ROWS or size >= BATCH_BYTES:
            yield _batch(*zip(*rows, strict=True))
            rows, size = [], 0
    if rows:
        yield _batch(*zip(*rows, strict=True))
