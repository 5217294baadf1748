"""Image classification at the gateway: request and response models, validation of pictures, and answers."""

import base64
import binascii
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.data.class_names import list_classes
from models.data.request_times import check_label_time
from models.image.raw.conversion import MOST_BYTES, SUPPORTED, convert
from models.image.raw.png import encode_pngs

# A file in base64 is longer by a third.
MOST_CHARACTERS = 4 * -(-MOST_BYTES // 3)
# Bounds of a picture as lists of numbers, which take many bytes a pixel.
LISTED_PIXELS, LISTED_SIDE = 1 << 18, 8192
Grey = Annotated[int, Field(ge=0, le=255)]
Colour = Annotated[list[Grey], Field(fail_fast=True, min_length=3, max_length=3)]
Line = Annotated[list[Grey | Colour], Field(fail_fast=True, min_length=1, max_length=LISTED_SIDE)]


class Picture(BaseModel):
    """A picture, as an image file or as rows of pixels."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        title="Picture",
        json_schema_extra={"oneOf": [{"required": ["image"]}, {"required": ["pixels"]}]},
    )

    key: Annotated[
        str, Field(max_length=256, description="Name of the picture, chosen by the client; by default a hash.")
    ] = ""
    image: Annotated[str, Field(max_length=MOST_CHARACTERS, description=f"A file in base64: {SUPPORTED}.")] = ""
    pixels: Annotated[
        list[Line],
        Field(
            fail_fast=True,
            min_length=1,
            max_length=LISTED_SIDE,
            description="Rows of grey values or of [red, green, blue], 0 to 255; send larger pictures as files.",
        ),
    ] = []

    @model_validator(mode="after")
    def _require_one_source(self) -> "Picture":
        if len(self.model_fields_set & {"image", "pixels"}) != 1:
            raise ValueError("give either image or pixels")
        return self


class Classified(BaseModel):
    """The model's answer for a picture."""

    score: Annotated[float, Field(ge=0, le=1.000001, description="Probability of the class.")]
    decision: Annotated[str, Field(description="The class of the greatest probability.")]
    probabilities: Annotated[dict[str, float], Field(description="By class.")]


class Pictures:
    """The gateway's interface to image classification; see ``serving.gateway.use_case_interface.Online``. It has no history."""

    Request, Answer = Picture, Classified
    max_bytes = MOST_CHARACTERS + (64 << 10)
    explained_features = ()
    reads_files = True
    has_history = False

    def row(self, request: Picture) -> dict[str, Any]:
        """Return the picture as training converts it, with its brightness and contrast.

        It is decoded completely, as a truncated file would make a whole batch of requests fail.
        """
        data = _decode_base64(request.image) if "image" in request.model_fields_set else _encode_pixels(request.pixels)
        try:
            image = convert(data)
        except ValueError as error:
            raise ValueError(f"image: this is no image file that can be used: {error}.") from error
        key = request.key or f"{zlib.crc32(data):08x}"
        return {"key": key, "image": image.content, "brightness": image.brightness, "contrast": image.contrast}

    def key(self, row: Mapping[str, Any]) -> str:
        """Return the client's name of the picture."""
        return row["key"]

    def features(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return raw features as in the training examples; the label is unknown and therefore empty."""
        return {**row, "label": b""}

    def journal(self, row: Mapping[str, Any]) -> list[Any]:
        """Return an empty list, as a picture has no history."""
        return []

    def remember(self, journal: list[Any]) -> None:
        """Do nothing, as a picture has no history."""

    def label(self, value: int | str) -> str:
        """Return the label: the name of a class, in the Unicode form of the training data."""
        if not 0 < len(str(value)) <= 256:
            raise ValueError("label: give the name of a class, 1 to 256 characters.")
        return unicodedata.normalize("NFC", str(value))

    def label_time(self, journal: list[Any], value: Any, now: int) -> int:
        """Return when the label became known: not in the future."""
        return check_label_time(value, now)

    def learn(self, journal: list[Any], label: str, label_time: int) -> None:
        """Do nothing, as only the log stores labels."""

    def answer(
        self, outputs: Mapping[str, np.ndarray], point: Mapping[str, float], settings: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the most probable class and all probabilities; without class names the classes are numbered."""
        probabilities = outputs["probabilities"].tolist()
        names = list_classes(settings) or map(str, range(len(probabilities)))
        by_class = dict(zip(names, probabilities, strict=True))
        best = max(by_class, key=by_class.__getitem__)
        return {"score": by_class[best], "decision": best, "probabilities": by_class}

    def seed(self, spans: Iterable[str], settings: Mapping[str, Any]) -> int:
        """Return 0, as a picture has no history."""
        return 0

    def state(self) -> None:
        """Return None, as there is no state."""

    def load(self, state: None) -> None:
        """Do nothing, as there is no state."""

    def snapshot(self) -> Iterator[None]:
        """Return no parts, as there is no state."""
        return iter(())


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("image: this is not valid base64.") from error


def _encode_pixels(pixels: list[list[Any]]) -> bytes:
    if (
        len({len(line) for line in pixels}) > 1
        or len({isinstance(pixel, list) for line in pixels for pixel in line}) > 1
    ):
        raise ValueError("pixels: all rows need the same length, and all pixels the same type (grey or colour).")
    if len(pixels) * len(pixels[0]) > LISTED_PIXELS:
        raise ValueError(f"pixels: a picture may have at most {LISTED_PIXELS} pixels; send a larger one as image.")
    array = np.array(pixels, np.uint8)
    return encode_pngs(array.reshape(1, *array.shape[:2], -1))[0]


def online() -> Pictures:
    """Create the gateway's interface to this case."""
    return Pictures()
