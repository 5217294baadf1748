"""Read images stored as arrays: NumPy archives and IDX files, as one group for each part."""

import gzip
import math
import struct
import unicodedata
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.errors import DataError
from models.image.raw.class_folders import PARTS

ARCHIVE = "images.npz"
IDX = {"train": "train", "t10k": "test"}
IDX_FILES = ("images-idx3-ubyte", "labels-idx1-ubyte")


class Group(NamedTuple):
    """Rows of one official part, 'train', 'valid', 'test' or '': images uint8 [N,H,W,C], labels str [N]."""

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
    names = {str(name): PARTS.get(str(name).lower(), "") for name in np.unique(parts)}
    if unknown := [name for name, part in names.items() if name and not part]:
        raise DataError(f"{path} has a part '{unknown[0]}'; a part is 'train', 'valid', 'test' or ''.")
    parts, labels = np.array([names[str(name)] for name in parts]), _read_labels(path, labels)
    masks = [(part, parts == part) for part in ("train", "valid", "test", "") if part in parts]
    return [Group(part, images[mask], labels[mask]) for part, mask in masks]


def _read_labels(path: Path, labels: np.ndarray) -> np.ndarray:
    """Return labels as text in Unicode's composed form."""
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.rint(labels)):
        raise DataError(f"{path} has labels that are fractions or missing; give the names or numbers of the classes.")
    try:
        texts = np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels
    except UnicodeDecodeError as error:
        raise DataError(f"{path} has labels that are not UTF-8 ({error}); write them as text.") from error
    texts = texts.astype(np.int64) if texts.dtype.kind == "f" else texts
    return np.array([unicodedata.normalize("NFC", str(text)) for text in texts.tolist()])


def read_declared_classes(root: Path) -> set[str]:
    """Return the classes that an archive's own list ``classes`` names; empty without an archive or a list."""
    path = root / ARCHIVE
    names = read_archive(path, "classes").get("classes") if path.exists() else None
    return set() if names is None else set(_read_labels(path, names).tolist())


def has_arrays(root: Path) -> bool:
    """Whether a folder holds ``images.npz`` or IDX files."""
    return (root / ARCHIVE).exists() or any(root.glob("*idx3-ubyte*"))


def list_array_files(root: Path) -> list[Path]:
    """Return the files that :func:`read_groups` reads."""
    if (root / ARCHIVE).exists():
        return [root / ARCHIVE]
    paths = [_find_file(root, f"{prefix}-{rest}") for prefix in IDX for rest in IDX_FILES]
    return [path for path in paths if path.exists()]


def _read_idx_groups(span: Path) -> list[Group]:
    groups = []
    for prefix, part in IDX.items():
        image_file, label_file = (_find_file(span, f"{prefix}-{rest}") for rest in IDX_FILES)
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


def _find_file(folder: Path, name: str) -> Path:
    """Return the path of an IDX file, which may be packed and have a dot before ``idx``."""
    dotted = name.replace("-idx", ".idx")
    paths = [folder / (stem + suffix) for stem in (name, dotted) for suffix in ("", ".gz")]
    return next((path for path in paths if path.exists()), paths[0])


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
