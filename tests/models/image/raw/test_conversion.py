"""Conversion of image files, against Pillow: each format and mode, and the same result in training and at the gateway."""

import base64
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from support.pictures import decode_picture, encode_image, orientation_exif, random_images, read_rows

from models.errors import DataError
from models.image.online_requests import Picture, Pictures
from models.image.raw import conversion
from models.image.raw.conversion import convert, decode

HEIGHT, WIDTH = 9, 13
COLOUR = random_images(HEIGHT, WIDTH, 3)
DEEP = np.random.default_rng(3).integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16)
# Values that the modes with few bits or colours can hold.
COARSE = np.repeat(random_images(HEIGHT, WIDTH, 1) // 128 * 255, 3, axis=2)
# A CMYK file in JPEG is encoded as JPEG twice.
TOLERANCES = {"JPEG": 24, "AVIF": 6, "JPEG2000": 6}


def create_image(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(DEEP)
    if mode in ("RGBA", "LA"):
        image = Image.fromarray(COLOUR).convert(mode)
        image.putalpha(Image.fromarray(random_images(HEIGHT, WIDTH)))
        return image
    return Image.fromarray(COARSE if mode in ("1", "P") else COLOUR).convert(mode)


def expected_pixels(image: Image.Image) -> np.ndarray:
    """The pixels by plain arithmetic: transparent ones white, 16 bits divided by 257."""
    if image.mode == "I;16":
        return np.rint(np.asarray(image) / 257)
    if image.mode in ("RGBA", "LA"):
        values = np.asarray(image).astype(float)
        alpha = values[..., -1:] / 255
        return np.rint(values[..., :-1] * alpha + 255 * (1 - alpha)).squeeze()
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB")).astype(float)


CASES = [
    *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("TIFF", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16")),
    *(("WEBP", mode, {"lossless": True, "exact": True}) for mode in ("RGB", "RGBA")),
    *(("BMP", mode, {}) for mode in ("1", "L", "P", "RGB")),
    *(("GIF", mode, {}) for mode in ("1", "P")),
    *(("PPM", mode, {}) for mode in ("1", "L", "RGB", "I;16")),
    *(("JPEG", mode, {"quality": 100, "subsampling": 0}) for mode in ("L", "RGB", "CMYK")),
    *(("AVIF", mode, {"quality": 100, "subsampling": "4:4:4"}) for mode in ("L", "RGB")),
    *(("JPEG2000", mode, {"irreversible": False}) for mode in ("L", "RGB", "I;16")),
]


def request_row(data: bytes) -> dict:
    return Pictures().row(Picture(image=base64.b64encode(data).decode()))


@pytest.mark.parametrize(("format_", "mode", "options"), CASES)
def test_training_and_gateway_have_the_pixels_of_the_file(
    tmp_path: Path, format_: str, mode: str, options: dict
) -> None:
    image = create_image(mode)
    data = encode_image(image, format_, **options)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(data)  # the suffix is wrong for most formats
    (row,) = read_rows(tmp_path)
    served = request_row(data)
    assert row["image"] == served["image"]
    assert row["brightness"] == np.float32(served["brightness"]) and row["contrast"] == np.float32(served["contrast"])
    pixels, expected = decode_picture(served["image"]), expected_pixels(image)
    assert pixels.dtype == np.uint8 and pixels.shape[:2] == (HEIGHT, WIDTH)
    expected = np.broadcast_to(expected.reshape(HEIGHT, WIDTH, -1), (*pixels.shape, 1)[:3])
    np.testing.assert_allclose(pixels.reshape(expected.shape), expected, atol=TOLERANCES.get(format_, 1))
    assert served["brightness"] == pytest.approx(pixels.mean() / 255, abs=1e-6)
    assert convert(row["image"]).content == row["image"]


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright_by_their_exif_orientation(format_: str, orientation: int) -> None:
    stored = np.zeros((16, 24), np.uint8)
    stored[:8, :8] = 255
    options = {"lossless": True} if format_ == "WEBP" else {}
    data = encode_image(Image.fromarray(stored), format_, exif=orientation_exif(orientation), **options)
    with Image.open(BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("L"))
    pixels = decode(data).pixels
    np.testing.assert_allclose(pixels if pixels.ndim == 2 else pixels[..., 0], expected, atol=3)
    assert pixels.shape[:2] == ((24, 16) if orientation > 4 else (16, 24))
    assert bool(expected[0, 0]) == (orientation in (1, 5))
    converted = convert(data).content
    assert converted[:3] == (data[:3] if format_ == "JPEG" else b"\x89PN")
    np.testing.assert_allclose(decode_picture(converted).reshape(pixels.shape), pixels, atol=3)
    assert request_row(data)["image"] == converted


def test_a_damaged_orientation_leaves_the_image_as_it_is() -> None:
    data = encode_image(Image.fromarray(COLOUR), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(data).pixels.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_of_several_frames_is_used(format_: str) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (200, 10, 90)]
    options = {"lossless": True} if format_ == "WEBP" else {}
    data = encode_image(frames[0], format_, save_all=True, append_images=frames[1:], **options)
    assert (decode(data).pixels == 200).all()


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(format_: str, share: float) -> None:
    data = encode_image(Image.fromarray(random_images(40, 40, 3)), format_)
    with pytest.raises(ValueError, match="damaged"):
        convert(data[: int(len(data) * share)])


def test_a_png_with_a_wrong_checksum_is_refused_although_pillow_reads_it() -> None:
    data = bytearray(encode_image(Image.fromarray(COLOUR), "PNG"))
    data[data.index(b"IEND") - 5] ^= 1
    assert decode_picture(bytes(data)).shape == COLOUR.shape
    with pytest.raises(ValueError, match=r"damaged: the checksum of its chunk b'IDAT'"):
        convert(bytes(data))


def test_a_file_that_declares_too_many_pixels_is_refused_without_decoding() -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    for width, height in ((10_000, 9_000), (60_000, 60_000), (70_000, 1)):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        bomb = conversion.PNG_HEAD + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
        with pytest.raises(ValueError, match="89,478,485"):
            convert(bomb)
        with pytest.raises(ValueError, match=r"^image: this is no image file.*89,478,485"):
            request_row(bomb)


def test_a_file_of_too_many_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "MOST_BYTES", 1000)
    monkeypatch.setattr("models.image.raw.readers.MOST_BYTES", 1000)
    data = encode_image(Image.fromarray(random_images(40, 40)), "PNG")
    with pytest.raises(ValueError, match="MiB are read"):
        request_row(data)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(data)
    with pytest.raises(DataError, match=r"cat/a\.png: .*MiB are read"):
        read_rows(tmp_path)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_range_are_refused(mode: str) -> None:
    with pytest.raises(ValueError, match="save it with 8 or 16 bits"):
        convert(encode_image(Image.fromarray(COLOUR).convert("L").convert(mode), "TIFF"))


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "BMP"])
def test_large_images_are_reduced_to_what_the_graph_can_hold(monkeypatch: pytest.MonkeyPatch, format_: str) -> None:
    monkeypatch.setattr(conversion, "REDUCED_PIXELS", 1000)
    data = encode_image(Image.fromarray(np.full((41, 80, 3), 77, np.uint8)), format_)
    converted = convert(data)
    pixels = decode_picture(converted.content)
    assert pixels.shape == (21, 40, 3) and np.ptp(pixels) <= 1 and abs(int(pixels[0, 0, 0]) - 77) <= 1
    assert convert(converted.content) == converted
