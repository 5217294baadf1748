"""Images that are arrays: NumPy archives and IDX files, each as groups of one part."""

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


def groups(span: Path) -> list[Group]:
    """What ``images.npz`` of a span holds, or else its IDX files.

    Raises:
        DataError: naming the file that is damaged or does not fit the others.
    """
    path = span / ARCHIVE
    found = _archive_groups(path) if path.exists() else _idx_groups(span)
    if len({group.images.shape[1:] for group in found}) > 1:
        raise DataError(f"The images in {span} differ in size between train and test; make them equal.")
    return found


def archive(path: Path, *names: str) -> dict[str, np.ndarray]:
    """The named arrays that are there; only these are read."""
    try:
        # Opened here, because NumPy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names if name in arrays}
    except Exception as error:  # zipfile, zlib, struct and NumPy each have their own.
        raise DataError(f"{path} is damaged ({error}); replace it.") from error


def _archive_groups(path: Path) -> list[Group]:
    arrays = archive(path, "images", "labels", "part")
    images, labels = (arrays.get(name, np.empty(0)) for name in ("images", "labels"))
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3) or not images.size:
        raise DataError(f"{path} needs an array 'images', uint8 [N,H,W] or [N,H,W,C] of 1 or 3 channels, not empty.")
    parts = arrays.get("part", np.full(len(images), ""))
    if not labels.shape == parts.shape == images.shape[:1]:
        raise DataError(f"{path} has {len(images)} images, {labels.size} labels, {parts.size} parts; make them equal.")
    if unknown := set(parts.tolist()) - {"train", "test", ""}:
        raise DataError(f"{path} has a part '{unknown.pop()}'; a part is 'train', 'test' or ''.")
    picks = [(part, parts == part) for part in ("train", "test", "") if part in parts]
    return [Group(part, images[pick], labels[pick].astype(str)) for part, pick in picks]


def _idx_groups(span: Path) -> list[Group]:
    groups = []
    for prefix, part in IDX.items():
        pictures, marks = (_either(span / f"{prefix}-{rest}") for rest in ("images-idx3-ubyte", "labels-idx1-ubyte"))
        if not pictures.exists() and not marks.exists():
            continue
        images, labels = _idx(pictures, 3), _idx(marks, 1)
        if len(images) != len(labels):
            raise DataError(f"{marks} has {len(labels)} labels, {pictures} {len(images)} images; fetch both again.")
        groups.append(Group(part, images[..., None], labels.astype(str)))
    if not groups:
        raise DataError(f"{span} has IDX files under other names; expected train-images-idx3-ubyte or t10k-…, or .gz.")
    return groups


def _either(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    return packed if packed.exists() and not path.exists() else path


def _idx(path: Path, dimensions: int) -> np.ndarray:
    """A whole IDX file of unsigned bytes: magic 0x08 and the number of dimensions, big-endian sizes, data."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        magic, *sizes = struct.unpack_from(f">{1 + dimensions}I", data)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} is missing or damaged ({reason}); fetch it again.") from error
    if magic != 0x800 + dimensions:
        raise DataError(f"{path} starts with {magic:#010x}, not {0x800 + dimensions:#010x}; fetch it again.")
    body, announced = np.frombuffer(data, np.uint8, offset=4 * (1 + dimensions)), math.prod(sizes)
    if not announced or body.size != announced:
        raise DataError(f"{path} announces {announced} bytes and holds {body.size}; fetch it again.")
    return body.reshape(sizes)
