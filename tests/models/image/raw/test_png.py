"""The PNG encoder, against Pillow."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from support.pictures import decode_picture, random_images

from models.image.raw import png


@pytest.mark.parametrize("size", [(3, 1, 1, 1), (5, 8, 8, 1), (4, 28, 28, 1), (4, 32, 32, 3), (2, 300, 257, 3)])
def test_a_png_decodes_to_the_encoded_array(size):
    for images in (random_images(*size), np.zeros(size, np.uint8), np.full(size, 255, np.uint8)):
        for array, content in zip(images, png.encode_pngs(images), strict=True):
            expected = array[..., 0] if size[-1] == 1 else array
            np.testing.assert_array_equal(decode_picture(content), expected)


def test_a_png_has_valid_checksums():
    with Image.open(BytesIO(png.encode_pngs(random_images(1, 28, 28, 1))[0])) as image:
        image.verify()
