"""Convert image files to what the exported graph decodes, by the same rules in training and at the gateway.

The graph decodes PNG and JPEG files of 8-bit grey or RGB values. A file that is such already is passed on unchanged. Any
other is converted: pixels are turned upright by the EXIF orientation, transparent pixels become white, 16 bits are scaled
to 8, palettes and CMYK become RGB, and of several frames the first is used. Colour profiles are not applied.
"""

import io
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

# MPO, a format of cameras, is a JPEG followed by a second image; Pillow opens it as JPEG.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
JPEGS = ("JPEG", "MPO")
SUPPORTED = "PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000 or PPM"
# Limits of a file. Pillow refuses images of twice as many pixels, as a small file can declare them.
MOST_BYTES = 48 << 20
MOST_PIXELS = 89_478_485
LONGEST_SIDE = 65_535
# The graph holds a whole image as floats before it resizes it, so larger ones are reduced by a whole factor.
REDUCED_PIXELS = 4 << 20
JPEG_QUALITY = 95
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PNG_HEAD = b"\x89PNG\r\n\x1a\n"


class Decoded(NamedTuple):
    """An image as it is used, and how that differs from its file.

    Attributes:
        pixels: uint8 ``[height, width]`` for grey or ``[height, width, 3]``.
        format: Pillow's name of the file's format.
        changes: The conversions that were applied; empty if the file is passed on unchanged.
    """

    pixels: np.ndarray
    format: str
    changes: tuple[str, ...]

    @property
    def grey(self) -> bool:
        """Whether the pixels are grey values."""
        return self.pixels.ndim == 2


class ConvertedImage(NamedTuple):
    """A file that the graph decodes, with mean and standard deviation of its pixels in 0..1."""

    content: bytes
    brightness: float
    contrast: float


def convert(data: bytes) -> ConvertedImage:
    """Convert a file; a converted file is itself passed on unchanged.

    A JPEG file that has to be changed is encoded as JPEG again, with quality 95; other formats are encoded as PNG.

    Raises:
        ValueError: with the reason, if the file is damaged, too large or has a format that is not read.
    """
    decoded = decode(data)
    if decoded.changes:
        data = _encode(decoded)
        decoded = decode(data)
    return ConvertedImage(data, *measure(decoded.pixels))


def measure(pixels: np.ndarray) -> tuple[float, float]:
    """Return brightness and contrast of uint8 pixels: mean and standard deviation of their values in 0..1."""
    values = pixels.astype(np.float32) / 255
    # Rounding may exceed the largest possible standard deviation.
    return float(values.mean(dtype=np.float64)), min(float(values.std(dtype=np.float64)), 0.5)


def decode(data: bytes) -> Decoded:
    """Decode a file completely to upright 8-bit grey or RGB pixels.

    Raises:
        ValueError: as for :func:`convert`.
    """
    image = _load(data)
    format_ = image.format or ""
    changes = [] if format_ in ("PNG", *JPEGS) else [f"{format_} to PNG"]
    if format_ == "PNG":
        _check_png(data)
    if (turn := TURNS.get(_read_orientation(image))) is not None:
        image = image.transpose(turn)
        changes.append("turned upright by the EXIF orientation")
    image, change = _to_eight_bits(image, data[24] if format_ == "PNG" else 8)
    changes += [change] if change else []
    factor = _find_factor(*image.size)
    if factor > 1:
        image = image.reduce(factor)
        changes.append(f"reduced to at most {REDUCED_PIXELS:,} pixels")
    return Decoded(np.asarray(image), format_, tuple(changes))


def _encode(decoded: Decoded) -> bytes:
    # An image of the pixels alone has no colour profile or EXIF data that Pillow would write, too.
    stream, image = io.BytesIO(), Image.fromarray(decoded.pixels)
    if decoded.format in JPEGS:
        image.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    else:
        image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _load(data: bytes) -> Image.Image:
    if not data:
        raise ValueError("it is empty")
    if len(data) > MOST_BYTES:
        raise ValueError(describe_size(len(data)))
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if (size := image.width * image.height) > MOST_PIXELS or max(image.size) > LONGEST_SIDE:
            raise ValueError(
                f"it has {image.width} x {image.height} pixels, and at most {MOST_PIXELS:,} with sides of at most "
                f"{LONGEST_SIDE:,} are read"
            )
        if not size:
            raise ValueError("it has no pixels")
        image.load()
        return image
    except UnidentifiedImageError as error:
        raise ValueError(f"it is not {SUPPORTED}, or its header is damaged") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"it has more than {MOST_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error and its own exceptions.
        raise error if type(error) is ValueError else ValueError(f"it is damaged: {error}") from error


def describe_size(size: int) -> str:
    """Return the fault of a file of too many bytes."""
    return f"it has {size / (1 << 20):.1f} MiB, and at most {MOST_BYTES >> 20} MiB are read; save it as PNG or JPEG"


def _check_png(data: bytes) -> None:
    """Check the checksums of all chunks, as the graph does and Pillow does not."""
    position, name = len(PNG_HEAD), b""
    while name != b"IEND":
        if position + 12 > len(data):
            raise ValueError("it is damaged: the end of the file is missing")
        (length,) = struct.unpack_from(">I", data, position)
        name, end = data[position + 4 : position + 8], position + 8 + length
        if data[end : end + 4] != struct.pack(">I", zlib.crc32(data[position + 4 : end])):
            raise ValueError(f"it is damaged: the checksum of its chunk {name!r} is wrong")
        position = end + 4


def _read_orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # EXIF data may be damaged in many ways; the pixels are not.
        return 1


def _to_eight_bits(image: Image.Image, depth: int) -> tuple[Image.Image, str]:
    """Return the image in mode L or RGB, and the conversion; empty for none. ``depth`` is a PNG file's bits per value."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        values = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)), "16 bits to 8"
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are 32-bit numbers without a known range; save it with 8 or 16 bits")
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.has_transparency_data:
        background = Image.new("RGBA", image.size, "white")
        background.alpha_composite(image.convert("RGBA"))
        return background.convert("RGB").convert(mode), "transparent pixels to white"
    if image.mode == mode and depth == 8:
        return image, ""
    text = f"{image.mode} to {mode}" if image.mode != mode else f"{depth} bits to 8"
    return image.convert(mode), {"P to RGB": "palette to RGB", "1 to L": "1 bit to 8"}.get(text, text)


def _find_factor(width: int, height: int) -> int:
    factor = 1
    while -(-width // factor) * -(-height // factor) > REDUCED_PIXELS:
        factor += 1
    return factor
