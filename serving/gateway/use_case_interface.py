"""What the gateway asks of a use case; the case's own module ``online`` answers with an object of this shape."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel

from serving.gateway.log.tf_example import Value

Row = Mapping[str, Any]
Outputs = Mapping[str, np.ndarray]
Fields = Mapping[str, str]


class Change(Protocol):
    """What a row or a label changes in records that several gateways share; done twice it counts once.

    Attributes:
        record: Takes the field with its value. Where it has the field already, nothing is changed at all.
        field, value: What it takes.
        counts: The record in which a number grows by one.
        counted: Its field; empty where nothing is counted.
        drop: Fields of ``record`` that no later row needs.
        drop_counts: The same of ``counts``.
    """

    record: str
    field: str
    value: str
    counts: str
    counted: str
    drop: Sequence[str]
    drop_counts: Sequence[str]


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
        """Takes what :meth:`state` gave, or a part of a :meth:`snapshot`."""

    def snapshot(self) -> Iterator[Any]:
        """What :meth:`state` gives now, in parts that are short to make; between two parts rows may be remembered.

        One at a time: a second one ends the first.
        """


class Shareable(Online, Protocol):
    """A use case that remembers, and whose memory may also lie outside, as records of fields by name.

    Attributes:
        keeps: Seconds after its last change in which a record may still matter.
    """

    keeps: float

    def names(self, row: Row) -> Sequence[str]:
        """The records that the row's features come from."""

    def recalled(self, row: Row, records: Sequence[Fields]) -> tuple[dict[str, Value], Change]:
        """Features as :meth:`features` has them, from those records; and what remembers the row in them."""

    def learned(self, journal: list[Any], label: int | str, known: int) -> tuple[str, str]:
        """Record and field in which a label counts; the field is empty for one that does not."""

    def records(self) -> tuple[Any, Iterator[tuple[str, Fields]]]:
        """The memory in parts: what every gateway needs, for :meth:`load`, and all records."""
