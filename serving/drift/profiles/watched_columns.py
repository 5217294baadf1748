"""What is watched of a row: its raw features, what the model made of it, and where it is a picture its pixels."""

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
class Watched:
    """Which columns a row has for a monitor, as plain values that travel with a model.

    Attributes:
        features: Raw features whose drift matters.
        explaining: Raw features that only say what others would be.
        score: The model's output: a probability, or one a class.
        time: The raw feature with the row's time in seconds since 1970; empty where rows have none.
        picture: The raw feature that holds a picture's file; empty where there is none.
        threshold: A single score from here on is a positive prediction.
        classes: Their names, where the score is a probability a class.
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
        more = (one for one in (self.time, self.picture) if one)
        return tuple(dict.fromkeys((*self.features, *self.explaining, *more)))

    def scores(self, records: Sequence[bytes]) -> np.ndarray:
        """The scores of records of the prediction log, ``[n, outputs]``."""
        name = OUTPUT + self.score
        return np.array([decode(one, (name,))[name] for one in records], np.float64).reshape(len(records), -1)

    def right(self, scores: np.ndarray, labels: Sequence[Any]) -> list[float]:
        """What came, 0 or 1 a row: the label, or where there are classes whether the predicted one is the label's name."""
        if scores.shape[1] == 1:
            return [float(one) for one in labels]
        predicted = self.answers(scores)["predicted"]
        texts = (one.decode() if isinstance(one, bytes) else str(one) for one in labels)
        return [float(one == text) for one, text in zip(predicted, texts, strict=True)]

    def records(self, records: Sequence[bytes]) -> tuple[pl.DataFrame, np.ndarray]:
        """Columns of records of the prediction log, and their scores ``[n, outputs]``."""
        wanted = frozenset((*self.raw, OUTPUT + self.score))
        rows = [decode(one, wanted) for one in records]
        columns = {name: [(row.get(name) or (None,))[0] for row in rows] for name in self.raw}
        return self.frame(columns, np.array([row[OUTPUT + self.score] for row in rows], np.float64))

    def frame(self, columns: Mapping[str, Any], scores: np.ndarray) -> tuple[pl.DataFrame, np.ndarray]:
        """The columns of rows, from raw features ``[n]`` by name and scores ``[n]`` or ``[n, outputs]``; the scores as 2-D.

        ``confidence`` is what a metric is estimated from: the score itself, or that of the predicted class.
        """
        scores = np.asarray(scores, np.float64).reshape(len(scores), -1)
        found = pl.DataFrame({name: _series(columns[name]) for name in (*self.features, *self.explaining)})
        if self.picture:
            pixels = [image_columns.statistics(_pixels(one)) for one in columns[self.picture]]
            drawn = pl.concat(pixels).drop([name for name in pixels[0].columns if name in found.columns])
            found = found.hstack(drawn)
        return found.hstack(self.answers(scores)), scores

    def answers(self, scores: np.ndarray) -> pl.DataFrame:
        """What the model made of rows, from scores ``[n, outputs]``."""
        if scores.shape[1] > 1:
            return image_columns.answers(scores, self.classes or [str(one) for one in range(scores.shape[1])])
        positive = np.where(scores[:, 0] >= self.threshold, "positive", "negative")
        return pl.DataFrame({"score": scores[:, 0], "predicted": pl.Series(positive.tolist(), dtype=pl.String)})

    @staticmethod
    def confidence(scores: np.ndarray) -> np.ndarray:
        """The score that a metric is estimated from, ``[n]``: the only one, or the greatest."""
        return scores.max(axis=1)


def _series(values: Any) -> pl.Series:
    return bins.series(values if isinstance(values, pl.Series) else pl.Series(list(values), strict=False))


def _pixels(data: bytes) -> np.ndarray:
    """A picture's file as ``[1, height, width, channels]`` in 0..1."""
    with Image.open(io.BytesIO(data)) as image:
        held = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"), np.float64) / 255
    return held.reshape(1, *held.shape[:2], -1)
