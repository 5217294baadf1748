"""Write pictures for tests, and read them."""

import gzip
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from models.data.data_report import DataReport
from models.image import data
from models.image.case import CASE
from models.image.raw import readers
from models.spans import find_spans


def decode_picture(content: bytes) -> np.ndarray:
    with Image.open(BytesIO(content)) as image:
        image.load()
        return np.asarray(image)


def read_rows(span: Path) -> list[dict]:
    return [row for batch in readers.read(span) for row in batch.to_pylist()]


def check_images(source: Path, **settings: object) -> DataReport:
    return data.check(find_spans(source), {**CASE.settings["data"], **settings})


def random_images(*size: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, size, np.uint8)


def encode_idx(images: np.ndarray, dimensions: int, count: int | None = None) -> bytes:
    sizes = (len(images) if count is None else count, *images.shape[1:])
    return struct.pack(f">{1 + dimensions}I", 0x800 + dimensions, *sizes) + images.tobytes()


def write_idx(span: Path, prefix: str, images: np.ndarray, labels: np.ndarray, packed: bool = False) -> None:
    for name, content in (("images-idx3", encode_idx(images, 3)), ("labels-idx1", encode_idx(labels, 1))):
        path = span / f"{prefix}-{name}-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content) if packed else content)


def write_image(path: Path, array: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return array


def damage(span: Path, name: str, change) -> None:
    path = span / name
    path.write_bytes(change(path.read_bytes()))


def encode_image(image: Image.Image, format_: str, **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def orientation_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif
