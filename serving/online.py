"""What the gateway asks of a use case; the case's own module ``online`` answers with an object of this shape."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel

from serving.wire import Value

Row = Mapping[str, Any]
Outputs = Mapping[str, np.ndarray]


class Online(Protocol):
    """One use case at the gateway, made by ``online()`` of ``models/<case>/online.py``. One thread at a time.

    Attributes:
        Request: What a client sends.
        Answer: The case's own part of the answer: a score, a decision and whatever else a client of the case wants.
        most_bytes: The largest body of a request.
        floats: How many floats those features have that have them in every row, by name.
        hints: Features that a reason may name; none for a case that gives no reasons.
        remembers: Whether a row's features depend on earlier rows.
    """

    Request: type[BaseModel]
    Answer: type[BaseModel]
    most_bytes: int
    floats: Mapping[str, int]
    hints: Sequence[str]
    remembers: bool

    def row(self, asked: BaseModel) -> Row:
        """The request as plain values, checked further than types can.

        Raises:
            ValueError: saying in one sentence what is wrong.
        """

    def key(self, row: Row) -> str:
        """What a late label names the row by, and what decides which version answers it."""

    def features(self, row: Row) -> dict[str, Value]:
        """The model's raw features, history included, by name; None where a value is missing."""

    def journal(self, row: Row) -> list[Any]:
        """What has to be kept of a row to remember it, as values that JSON keeps exactly."""

    def remember(self, journal: list[Any]) -> None:
        """Makes a row part of the past; again for the same row changes nothing."""

    def label(self, told: int | str) -> int | str:
        """A label as the case has them.

        Raises:
            ValueError: if it is none.
        """

    def learn(self, journal: list[Any], label: int | str, known: int) -> None:
        """Takes a remembered row's label, known since ``known`` (microseconds since 1970); once a row."""

    def answer(self, outputs: Outputs, point: Mapping[str, float], settings: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of ``Answer``, by the operating point and settings of the version that answered.

        Args:
            outputs: The model's outputs for one row, without the batch axis.
        """

    def seed(self, spans: Iterable[str], settings: Mapping[str, Any]) -> int:
        """Remembers what raw spans hold, oldest first; returns the number of rows."""

    def state(self) -> Any:
        """Everything remembered, as values that JSON keeps exactly."""

    def load(self, state: Any) -> None:
        """Takes what :meth:`state` gave."""
