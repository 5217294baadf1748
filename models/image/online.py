"""A picture at the gateway: what a client sends, how it is made safe for the model, and what is answered."""

import base64
import binascii
import io
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.image.png import pngs

MOST_BYTES = 8 << 20
MOST_PIXELS = 16 << 20
LONGEST_SIDE = 8192
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
Grey = Annotated[int, Field(ge=0, le=255)]
Colour = Annotated[list[Grey], Field(min_length=3, max_length=3)]
Line = Annotated[list[Grey | Colour], Field(min_length=1, max_length=LONGEST_SIDE)]


class Picture(BaseModel):
    """A picture, as a PNG or JPEG file or as rows of pixels."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        title="Picture",
        json_schema_extra={"oneOf": [{"required": ["image"]}, {"required": ["pixels"]}]},
    )

    key: Annotated[
        str, Field(max_length=256, description="The client's name for it; by default one of its content.")
    ] = ""
    image: Annotated[str, Field(max_length=MOST_BYTES, description="A PNG or JPEG file in base64.")] = ""
    pixels: Annotated[
        list[Line],
        Field(
            min_length=1, max_length=LONGEST_SIDE, description="Rows of grey values or of [red, green, blue], 0 to 255."
        ),
    ] = []

    @model_validator(mode="after")
    def _one_of_both(self) -> "Picture":
        if len(self.model_fields_set & {"image", "pixels"}) != 1:
            raise ValueError("give either image or pixels")
        return self


class Classified(BaseModel):
    """What the model sees in it."""

    score: Annotated[float, Field(ge=0, le=1.000001, description="Probability of the class.")]
    decision: Annotated[str, Field(description="The class of the greatest probability.")]
    probabilities: Annotated[dict[str, float], Field(description="By class.")]


class Pictures:
    """The gateway's view of image classification; see ``serving.gateway.use_case_interface.Online``. It remembers nothing."""

    Request, Answer = Picture, Classified
    most_bytes = MOST_BYTES + (64 << 10)
    floats = {"brightness": 1, "contrast": 1}
    hints = ()
    remembers = False

    def row(self, asked: Picture) -> dict[str, Any]:
        """The picture's file and what the schema watches of it; the file is one that decodes, whole."""
        data = _file(asked.image) if "image" in asked.model_fields_set else _encoded(asked.pixels)
        pixels = _pixels(data).astype(np.float32) / 255
        key = asked.key or f"{zlib.crc32(data):08x}"
        return {"key": key, "image": data, "brightness": float(pixels.mean()), "contrast": float(pixels.std())}

    def key(self, row: Mapping[str, Any]) -> str:
        """The client's name of the picture."""
        return row["key"]

    def features(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Raw features as the training examples have them; the label's name, which nobody knows, is empty."""
        return {**row, "label": b""}

    def journal(self, row: Mapping[str, Any]) -> list[Any]:
        """Nothing: a picture has no past."""
        return []

    def remember(self, journal: list[Any]) -> None:
        """Nothing is remembered."""

    def label(self, told: int | str) -> str:
        """The name of a class."""
        if not 0 < len(str(told)) <= 256:
            raise ValueError("label: this is the name of a class.")
        return str(told)

    def learn(self, journal: list[Any], label: str, known: int) -> None:
        """Labels are kept in the log alone."""

    def answer(
        self, outputs: Mapping[str, np.ndarray], point: Mapping[str, float], settings: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The likeliest class and all probabilities; classes are numbered where their names are not known."""
        probabilities = outputs["probabilities"].tolist()
        names = settings["classes"].split(",") if "classes" in settings else map(str, range(len(probabilities)))
        named = dict(zip(names, probabilities, strict=True))
        best = max(named, key=named.__getitem__)
        return {"score": named[best], "decision": best, "probabilities": named}

    def seed(self, spans: Iterable[str], settings: Mapping[str, Any]) -> int:
        """Nothing to remember."""
        return 0

    def state(self) -> None:
        """Nothing."""

    def load(self, state: None) -> None:
        """Nothing."""

    def snapshot(self) -> Iterator[None]:
        """Nothing."""
        return iter(())


def _file(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("image: this is not base64.") from error


def _encoded(pixels: list[list[Any]]) -> bytes:
    if len({len(line) for line in pixels}) > 1 or len({isinstance(one, list) for line in pixels for one in line}) > 1:
        raise ValueError("pixels: all rows need the same length, and all pixels the same kind.")
    if len(pixels) * len(pixels[0]) > MOST_PIXELS:
        raise ValueError(f"pixels: a picture may have {MOST_PIXELS} pixels.")
    array = np.array(pixels, np.uint8)
    return pngs(array.reshape(1, *array.shape[:2], -1))[0]


def _pixels(data: bytes) -> np.ndarray:
    """Grey or colour values of a file that decodes to its end: one that does not would fail a batch of others with it."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MOST_PIXELS or max(image.size) > LONGEST_SIDE:
                raise ValueError(f"a picture may have {MOST_PIXELS} pixels and sides of {LONGEST_SIDE}")
            if image.mode not in MODES:
                raise ValueError("it does not have 8 bits a channel")
            return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and its own.
        reason = str(error) if type(error) is ValueError else "it is damaged or of another kind"
        raise ValueError(f"image: this is no PNG or JPEG file that can be used: {reason}.") from error


def online() -> Pictures:
    """The case's object for the gateway."""
    return Pictures()
