"""Interface between the gateway and a use case; ``models/<case>/online_requests.py`` implements it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel

from serving.gateway.log.tf_example import Value

Row = Mapping[str, Any]
Outputs = Mapping[str, np.ndarray]
Fields = Mapping[str, str]


class HistoryChange(Protocol):
    """How a row or a label changes records that several gateways share. Idempotent: applying it again changes nothing.

    Attributes:
        record: Name of the record to which the field is added. If it has the field already, nothing changes at all.
        field, value: The field and its value.
        counts: Name of the record in which a counter is incremented.
        counted: The counter's field; empty to count nothing.
        drop: Fields of ``record`` that no later row needs.
        drop_counts: Fields of ``counts`` that no later row needs.
    """

    record: str
    field: str
    value: str
    counts: str
    counted: str
    drop: Sequence[str]
    drop_counts: Sequence[str]


class Online(Protocol):
    """One use case at the gateway, created by ``online()`` of ``models/<case>/online_requests.py``. Not thread-safe.

    Attributes:
        Request: Model of a request body.
        Answer: The case's own part of the response: a score, a decision and other fields for its clients.
        max_bytes: Maximum size of a request body in bytes.
        explained_features: Features that an attribution may name; empty if the case does not support attributions.
        reads_files: Whether ``row`` reads a file, which may take long even if the body is small; it runs in a thread then.
        has_history: Whether a row's features depend on earlier rows.
    """

    Request: type[BaseModel]
    Answer: type[BaseModel]
    max_bytes: int
    explained_features: Sequence[str]
    reads_files: bool
    has_history: bool

    def row(self, request: BaseModel) -> Row:
        """Convert the request to plain values, with the checks that types cannot express.

        Raises:
            ValueError: with a one-sentence reason.
        """

    def key(self, row: Row) -> str:
        """Return the key by which late labels refer to the row and by which the rollout assigns it to a version."""

    def features(self, row: Row) -> dict[str, Value]:
        """Return the model's raw features, including history, by name; None for a missing value."""

    def journal(self, row: Row) -> list[Any]:
        """Return what :meth:`remember` needs of a row, as values that JSON represents exactly."""

    def remember(self, journal: list[Any]) -> None:
        """Add a row to the history; repeating it for the same row changes nothing."""

    def label(self, value: int | str) -> int | str:
        """Convert a client's label to the case's own form.

        Raises:
            ValueError: if the case has no such label.
        """

    def label_time(self, journal: list[Any], value: Any, now: int) -> int:
        """Return when a label became known, in microseconds since 1970.

        Args:
            journal: The row's journal.
            value: ``label_time`` of the request; None if it was not given.
            now: The clock, in microseconds since 1970.

        Raises:
            ValueError: if it is not a time, or cannot be the time of the label.
        """

    def learn(self, journal: list[Any], label: int | str, known_at: int) -> None:
        """Add the label of a remembered row to the history; call it once a row.

        Args:
            journal: The row's journal.
            label: The label.
            known_at: When the label became known, in microseconds since 1970.
        """

    def answer(self, outputs: Outputs, point: Mapping[str, float], settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of ``Answer``.

        Args:
            outputs: The model's outputs for one row, without the batch axis.
            point: Operating point of the version that answered.
            settings: Settings of the version that answered.
        """

    def seed(self, spans: Iterable[str], settings: Mapping[str, Any]) -> int:
        """Add the rows of raw spans to the history, oldest first; return the number of rows."""

    def state(self) -> Any:
        """Return the whole history, as values that JSON represents exactly."""

    def load(self, state: Any) -> None:
        """Restore what :meth:`state` returned, or one part of a :meth:`snapshot`."""

    def snapshot(self) -> Iterator[Any]:
        """Yield the state at the time of the call in small parts; rows may be remembered between two parts.

        Only one snapshot can be active: starting a second one ends the first.
        """


class Shareable(Online, Protocol):
    """A use case with a history that can also be kept in a shared store, as named records of fields.

    Attributes:
        retention_seconds: Retention of a record after its last change, in seconds.
    """

    retention_seconds: float

    def names(self, row: Row) -> Sequence[str]:
        """Return the names of the records from which the row's features are computed."""

    def features_from_records(self, row: Row, records: Sequence[Fields]) -> tuple[dict[str, Value], HistoryChange]:
        """Compute the row's features from those records, as :meth:`features` does, and the change that adds the row."""

    def label_counter(self, journal: list[Any], label: int | str, known_at: int) -> tuple[str, str]:
        """Return the record and the field in which a label is counted; the field is empty for a label that is not."""

    def records(self) -> tuple[Any, Iterator[tuple[str, Fields]]]:
        """Return the history in two parts: the state that every gateway needs, for :meth:`load`, and all records."""
