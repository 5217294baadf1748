"""Read images stored as arrays: NumPy archives and IDX files, as one group for each part."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.errors import DataError

ARCHIVE = "images.npz"
IDX = {"train": "train", "t10k": "test"}


class Group(NamedTuple):
    """Rows of one part: images uint8 [N,H,W,C], labels str [N]."""

    part: str
    images: np.ndarray
    labels: np.ndarray


def read_groups(span: Path) -> list[Group]:
    """Read ``images.npz`` of a span, or else its IDX files.

    Raises:
        DataError: names the file that is damaged or inconsistent with the others.
    """
    path = span / ARCHIVE
    loaded = _read_archive_groups(path) if path.exists() else _read_idx_groups(span)
    if len({group.images.shape[1:] for group in loaded}) > 1:
        raise DataError(f"The images in {span} differ in size between train and test; make them equal.")
    return loaded


def read_archive(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Read the named arrays, without those that do not exist; other arrays are not read."""
    try:
        # Opened explicitly, as NumPy does not close a damaged file.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names if name in arrays}
    except Exception as error:  # zipfile, zlib, struct and NumPy each raise their own exceptions.
        raise DataError(f"{path} is damaged ({error}); replace it.") from error


def _read_archive_groups(path: Path) -> list[Group]:
    arrays = read_archive(path, "images", "labels", "part")
    images, labels = (arrays.get(name, np.empty(0)) for name in ("images", "labels"))
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3) or not images.size:
        raise DataError(f"{path} needs an array 'images', uint8 [N,H,W] or [N,H,W,C] with 1 or 3 channels, not empty.")
    parts = arrays.get("part", np.full(len(images), ""))
    if not labels.shape == parts.shape == images.shape[:1]:
        raise DataError(f"{path} has {len(images)} images, {labels.size} labels, {parts.size} parts; make them equal.")
    if unknown := set(parts.tolist()) - {"train", "test", ""}:
        raise DataError(f"{path} has a part '{unknown.pop()}'; a part is 'train', 'test' or ''.")
    masks = [(part, parts == part) for part in ("train", "test", "") if part in parts]
    return [Group(part, images[mask], labels[mask].astype(str)) for part, mask in masks]


def _read_idx_groups(span: Path) -> list[Group]:
    groups = []
    for prefix, part in IDX.items():
        image_file, label_file = (
            _find_file(span / f"{prefix}-{rest}") for rest in ("images-idx3-ubyte", "labels-idx1-ubyte")
        )
        if not image_file.exists() and not label_file.exists():
            continue
        images, labels = _read_idx(image_file, 3), _read_idx(label_file, 1)
        if len(images) != len(labels):
            raise DataError(
                f"{label_file} has {len(labels)} labels, {image_file} {len(images)} images; fetch both again."
            )
        groups.append(Group(part, images[..., None], labels.astype(str)))
    if not groups:
        raise DataError(f"{span} has IDX files under other names; expected train-images-idx3-ubyte or t10k-…, or .gz.")
    return groups


def _find_file(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    return packed if packed.exists() and not path.exists() else path


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes: magic 0x08 and the number of dimensions, big-endian sizes, data."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        magic, *sizes = struct.unpack_from(f">{1 + dimensions}I", data)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} is missing or damaged ({reason}); fetch it again.") from error
    if magic != 0x800 + dimensions:
        raise DataError(f"{path} starts with {magic:#010x}, not {0x800 + dimensions:#010x}; fetch it again.")
    body, expected = np.frombuffer(data, np.uint8, offset=4 * (1 + dimensions)), math.prod(sizes)
    if not expected or body.size != expected:
        raise DataError(f"{path} declares {expected} bytes of data and has {body.size}; fetch it again.")
    return body.reshape(sizes)
