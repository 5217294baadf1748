"""Raw images, whatever their storage, as Arrow batches: NumPy archives, IDX files and folders of classes."""

import gzip
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image

from models.errors import DataError

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
# Photographs are large: a batch of files is also cut here, so that memory stays bounded.
BATCH_BYTES = 64 << 20
LARGEST = 64
SAMPLE = 16
EXPECTED = "span-NNN folders, images.npz, IDX files (train-images-idx3-ubyte.gz, …), or one folder of images per class"
KERAS = ("mnist", "fashion_mnist", "cifar10", "cifar100")
PASSED = ("PNG", "JPEG", "MPO")  # MPO is what cameras write: a JPEG with a second image after it.
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp"}
PARTS = {"train": "train", "test": "test", "eval": "test", "val": "test"}
IDX = {"train": "train", "t10k": "test"}
DOWNLOAD_SECONDS = 10.0


class Group(NamedTuple):
    """Rows of one part: images uint8 [N,H,W,C], labels str [N]."""

    part: str
    images: np.ndarray
    labels: np.ndarray


def embedded(folder: Path) -> Path:
    """Stores scikit-learn's 1,797 handwritten digits, uint8 [N,8,8,1], as ``span-000`` of ``folder``, once."""

    def digits() -> dict[str, np.ndarray]:
        from sklearn.datasets import load_digits

        data = load_digits()
        images = np.rint(data.images * (255 / 16)).astype(np.uint8)[..., None]
        return {"images": images, "labels": data.target.astype(str)}

    return _store("digits", folder, digits)


def keras_dataset(name: str, folder: Path) -> Path:
    """Stores one of ``KERAS`` with its official split as ``span-000`` of ``folder``, once.

    Raises:
        DataError: for an unknown name, or when the download fails; nothing is left in ``folder`` then.
    """
    if name not in KERAS:
        raise DataError(f"There is no image data set '{name}'; give a path or one of {', '.join(KERAS)}.")
    return _store(name, folder, lambda: _download(name))


def spans(source: Path) -> dict[int, Path]:
    """The ``span-NNN`` folders of ``source`` by number, or ``source`` itself as span 0.

    Raises:
        DataError: if the folder is missing, empty, unreadable or holds something else.
    """
    names = [(re.fullmatch(r"span-(\d+)", path.name), path) for path in _folders(source)]
    numbered = [(int(match[1]), path) for match, path in names if match]
    found = dict(numbered) or {0: source}
    if len(found) < len(numbered):
        raise DataError(f"{source} has two folders for one span number; keep one of each.")
    for path in found.values():
        _kind(path)
    return dict(sorted(found.items()))


def read(span: Path) -> Iterator[pa.RecordBatch]:
    """All images of a span in batches of at most ``ROWS`` rows with ``COLUMNS``.

    JPEG and PNG files pass through unchanged; anything else is encoded as PNG. ``part`` is 'train' or 'test' where
    the source has an official split, else ''. ``key`` is the same on every reading. ``brightness`` and ``contrast``
    are mean and standard deviation of the pixels in 0…1.

    Raises:
        DataError: naming the file that is damaged or does not fit the others.
    """
    if _kind(span) == "folders":
        yield from _file_batches(span)
        return
    for group in _groups(span):
        step = min(ROWS, max(1, BATCH_BYTES // group.images[0].nbytes))
        for start in range(0, len(group.images), step):
            yield _array_batch(group, start, start + step)


def shape(span: Path) -> tuple[int, int, int]:
    """Height, width and channels of a span's images.

    Class folders have the first image's size, at most ``LARGEST`` each way, and one channel if a sample is all grey.
    """
    if _kind(span) != "folders":
        return tuple(int(size) for size in _groups(span)[0].images.shape[1:])
    files = [path for path, _, _ in _files(span)]
    sample = [_open(path) for path in files[:: max(1, len(files) // SAMPLE)][:SAMPLE]]
    width, height = sample[0].size
    return min(height, LARGEST), min(width, LARGEST), 1 if all(_is_grey(image) for image in sample) else 3


def classes(span: Path) -> list[str]:
    """Every label of a span, sorted as text; an archive's own list of classes counts too."""
    if _kind(span) == "folders":
        return sorted({label for _, label, _ in _files(span)})
    found = [np.unique(group.labels) for group in _groups(span)]
    if _kind(span) == "archive":
        found.append(_archive(span / "images.npz", "classes").get("classes", np.empty(0)).astype(str))
    return sorted({str(label) for labels in found for label in labels})


def pngs(images: np.ndarray) -> list[bytes]:
    """Each of uint8 [N,H,W,C], with C of 1 or 3, as the bytes of a PNG file.

    By hand, because Pillow's set-up per file costs more than a tiny image does. The small window and the run-length
    strategy make zlib's own set-up cheap; on 28×28 images the result is no larger than level 6 with defaults.
    """
    count, height, width, channels = images.shape
    rows = np.zeros((count, height, 1 + width * channels), np.uint8)  # Each line starts with its filter: 0, none.
    rows[:, :, 1:] = images.reshape(count, height, -1)
    window = min(15, max(9, (rows[0].nbytes - 1).bit_length()))
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    head, tail = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header), _chunk(b"IEND", b"")
    files = []
    for row in rows:
        packer = zlib.compressobj(1, zlib.DEFLATED, window, 4, zlib.Z_RLE)
        files.append(head + _chunk(b"IDAT", packer.compress(row) + packer.flush()) + tail)
    return files


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))


def _store(name: str, folder: Path, load: Callable[[], dict[str, np.ndarray]]) -> Path:
    path = folder / "span-000" / "images.npz"
    if path.exists():
        if str(_archive(path, "name").get("name", "")) != name:
            raise DataError(f"{path} holds other data than '{name}'; choose another folder.")
        return folder
    arrays = load()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            np.savez(file, name=name, classes=np.unique(arrays["labels"]), **arrays)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return folder


def _download(name: str) -> dict[str, np.ndarray]:
    """Train and test part of a Keras data set, one after the other. Keras deletes a half download itself."""
    import socket
    from importlib import import_module

    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_SECONDS)
    try:
        both = import_module(f"keras.datasets.{name}").load_data()
    except Exception as error:  # Keras wraps URLError in a bare Exception.
        raise DataError(
            f"The data set '{name}' could not be downloaded ({error}); "
            "give the path of a folder that holds images, or use the embedded digits."
        ) from error
    finally:
        socket.setdefaulttimeout(patience)
    images = np.concatenate([part[0] for part in both])
    return {
        "images": images if images.ndim == 4 else images[..., None],
        "labels": np.concatenate([part[1].ravel() for part in both]).astype(str),
        "part": np.repeat(["train", "test"], [len(part[0]) for part in both]),
    }


def _children(path: Path) -> list[Path]:
    """Files and folders by name, hidden ones left out."""
    try:
        return sorted(child for child in path.iterdir() if not child.name.startswith("."))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); expected a folder with {EXPECTED}.") from error


def _folders(path: Path) -> list[Path]:
    return [child for child in _children(path) if child.is_dir()]


def _kind(span: Path) -> str:
    folders = _folders(span)
    if (span / "images.npz").exists():
        return "archive"
    if any(span.glob("*-idx3-ubyte*")):
        return "idx"
    if folders and next(_files(span), None):
        return "folders"
    raise DataError(f"{span} holds no images; expected {EXPECTED}.")


def _groups(span: Path) -> list[Group]:
    groups = _archive_groups(span / "images.npz") if _kind(span) == "archive" else _idx_groups(span)
    if len({group.images.shape[1:] for group in groups}) > 1:
        raise DataError(f"The images in {span} differ in size between train and test; make them equal.")
    return groups


def _archive(path: Path, *names: str) -> dict[str, np.ndarray]:
    """The named arrays that are there; only these are read."""
    try:
        # Opened here, because NumPy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names if name in arrays}
    except Exception as error:  # zipfile, zlib, struct and NumPy each have their own.
        raise DataError(f"{path} is damaged ({error}); replace it.") from error


def _archive_groups(path: Path) -> list[Group]:
    arrays = _archive(path, "images", "labels", "part")
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


def _array_batch(group: Group, start: int, stop: int) -> pa.RecordBatch:
    images, labels = group.images[start:stop], group.labels[start:stop]
    pixels = images.reshape(len(images), -1).astype(np.float32) / 255
    prefix = group.part + "/" if group.part else ""
    keys = [f"{prefix}{number:05d}" for number in range(start, start + len(images))]
    return _batch(pngs(images), labels, [group.part] * len(images), keys, pixels.mean(1), pixels.std(1))


def _batch(*columns: Sequence) -> pa.RecordBatch:
    return pa.record_batch(
        [pa.array(column, kind) for column, kind in zip(columns, COLUMNS.types, strict=True)], schema=COLUMNS
    )


def _files(span: Path) -> Iterator[tuple[Path, str, str]]:
    """Path, label and part of each image file in class folders, in the order of their names."""
    split = [folder for folder in _folders(span) if folder.name in PARTS and _folders(folder)]
    roots = [(folder, PARTS[folder.name]) for folder in split] or [(span, "")]
    for root, part in roots:
        for folder in _folders(root):
            for path in _children(folder):
                if path.suffix.lower() in SUFFIXES:
                    yield path, folder.name, part


def _file_batches(span: Path) -> Iterator[pa.RecordBatch]:
    rows, size = [], 0
    for path, label, part in _files(span):
        content, pixels = _content(path)
        rows.append((content, label, part, path.relative_to(span).as_posix(), pixels.mean(), pixels.std()))
        size += len(content)
        if len(rows) == ROWS or size >= BATCH_BYTES:
            yield _batch(*zip(*rows, strict=True))
            rows, size = [], 0
    if rows:
        yield _batch(*zip(*rows, strict=True))


def _content(path: Path) -> tuple[bytes, np.ndarray]:
    """A file's bytes, as PNG if they are neither PNG nor JPEG whatever its name says, and its pixels in 0…1."""
    image = _open(path)
    if image.mode.startswith("I"):
        pixels = np.asarray(image, np.float32) / 65535
    else:
        pixels = np.asarray(image.convert("L" if _is_grey(image) else "RGB"), np.float32) / 255
    if image.format in PASSED:
        return path.read_bytes(), pixels
    return pngs(np.rint(pixels * 255).astype(np.uint8).reshape(1, *pixels.shape[:2], -1))[0], pixels


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and its own.
        raise DataError(f"{path} is not an image that can be read ({error}); replace or remove it.") from error


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA") or image.mode.startswith("I")
