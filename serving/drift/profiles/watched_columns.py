"""The monitored columns of a row: raw features, the model's outputs, and pixel statistics of an image."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from serving.drift.profiles import bins, image_columns
from serving.gateway.log.tf_example import decode

OUTPUT = "output/"
VERSION, IDENTITY = "served/version", "served/id"


@dataclass(frozen=True)
class WatchedColumns:
    """Which columns of a row are monitored, as plain values that travel with a model.

    Attributes:
        features: Raw features that are tested for drift.
        explaining: Raw features that are only used to explain others.
        score: Name of the model's output: one probability, or one per class.
        time: Raw feature with the row's time in seconds since 1970; empty if rows have no time.
        picture: Raw feature with the bytes of an image file; empty if there is none.
        threshold: Decision threshold: a single score of at least this is a positive prediction.
        classes: Names of the classes, if the output has one probability per class.
    """

    features: tuple[str, ...]
    explaining: tuple[str, ...]
    score: str
    time: str = ""
    picture: str = ""
    threshold: float = 0.5
    classes: tuple[str, ...] = ()

    @property
    def raw(self) -> tuple[str, ...]:
        """Every raw feature that is read."""
        optional = (name for name in (self.time, self.picture) if name)
        return tuple(dict.fromkeys((*self.features, *self.explaining, *optional)))

    def scores(self, records: Sequence[bytes]) -> np.ndarray:
        """Scores of records of the prediction log, ``[n, outputs]``."""
        name = OUTPUT + self.score
        return np.array([decode(record, (name,))[name] for record in records], np.float64).reshape(len(records), -1)

    def right(self, scores: np.ndarray, labels: Sequence[Any]) -> list[float]:
        """Outcome of each row, 0 or 1 ``[n]``: the label, or for classes whether the predicted class is the label."""
        if scores.shape[1] == 1:
            return [float(label) for label in labels]
        predicted = self.answers(scores)["predicted"]
        texts = (label.decode() if isinstance(label, bytes) else str(label) for label in labels)
        return [float(name == text) for name, text in zip(predicted, texts, strict=True)]

    def records(self, records: Sequence[bytes]) -> tuple[pl.DataFrame, np.ndarray]:
        """Monitored columns of records of the prediction log, and their scores ``[n, outputs]``."""
        fields = frozenset((*self.raw, OUTPUT + self.score))
        rows = [decode(record, fields) for record in records]
        columns = {name: [(row.get(name) or (None,))[0] for row in rows] for name in self.raw}
        return self.frame(columns, np.array([row[OUTPUT + self.score] for row in rows], np.float64))

    def frame(self, columns: Mapping[str, Any], scores: np.ndarray) -> tuple[pl.DataFrame, np.ndarray]:
        """Monitored columns of rows, and their scores as ``[n, outputs]``.

        Args:
            columns: Raw features ``[n]`` by name.
            scores: ``[n]`` or ``[n, outputs]``.
        """
        scores = np.asarray(scores, np.float64).reshape(len(scores), -1)
        frame = pl.DataFrame({name: _to_series(columns[name]) for name in (*self.features, *self.explaining)})
        if self.picture:
            pixels = [image_columns.pixel_statistics(_decode_image(data)) for data in columns[self.picture]]
            statistics = pl.concat(pixels).drop([name for name in pixels[0].columns if name in frame.columns])
            frame = frame.hstack(statistics)
        return frame.hstack(self.answers(scores)), scores

    def answers(self, scores: np.ndarray) -> pl.DataFrame:
        """Columns of the model's outputs, from scores ``[n, outputs]``."""
        if scores.shape[1] > 1:
            return image_columns.output_columns(
                scores, self.classes or [str(index) for index in range(scores.shape[1])]
            )
        positive = np.where(scores[:, 0] >= self.threshold, "positive", "negative")
        return pl.DataFrame({"score": scores[:, 0], "predicted": pl.Series(positive.tolist(), dtype=pl.String)})

    @staticmethod
    def confidence(scores: np.ndarray) -> np.ndarray:
        """Score that the metric is estimated from, ``[n]``: the only one, or the maximum over classes."""
        return scores.max(axis=1)


def _to_series(values: Any) -> pl.Series:
    return bins.to_series(values if isinstance(values, pl.Series) else pl.Series(list(values), strict=False))


def _decode_image(data: bytes) -> np.ndarray:
    """Decode an image file to ``[1, height, width, channels]`` in 0..1."""
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"), np.float64) / 255
    return pixels.reshape(1, *pixels.shape[:2], -1)
