"""The prediction log, read: the latest predictions, one by its id, and how many each version has answered."""

import re
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serving.gateway.log.log_files import Place, after, find, read
from serving.gateway.log.tf_example import decode, entry

IDENTITY = re.compile(r"([a-z0-9_-]{1,40})\.([0-9a-f]{1,8})\.([0-9a-f]{1,12})\.[0-9a-f]{8}")
LATEST = 30


@dataclass(frozen=True)
class Logged:
    """A prediction as the log has it.

    Attributes:
        id: As the answer gave it.
        time: When it was answered, UTC.
        key: The client's name for the row.
        version: Of the model.
        arm: stable or canary.
        score: What the model said.
        decision: What followed.
        record: The serialized example, features and answer.
    """

    id: str
    time: str
    key: str
    version: int
    arm: str
    score: float
    decision: str
    record: bytes = field(repr=False, default=b"")

    @property
    def features(self) -> dict[str, Any]:
        """What the model was asked with, values that can be read only."""
        held = {name: values for name, values in decode(self.record).items() if "/" not in name}
        return {name: [_readable(value) for value in values] for name, values in held.items()}


def by_id(folder: Path, identity: str) -> Logged | None:
    """The prediction of that id; None for one that is not in the log, or not any more.

    Args:
        folder: Of the case's log, with ``predictions`` and ``labels``.
    """
    parts = IDENTITY.fullmatch(identity)
    data = find(folder / "predictions", Place(int(parts[2], 16), int(parts[3], 16))) if parts else None
    found = _logged(data) if data else None
    return found if found and found.id == identity else None


def label(folder: Path, identity: str) -> str:
    """What the prediction turned out to be; empty while nobody has said."""
    wanted = identity.encode()
    for path in sorted((folder / "labels").glob("*.*")):
        if wanted not in path.read_bytes():
            continue
        for _, record in read(folder / "labels", Place(int(path.stem), 0)):
            held = decode(record, ("label/id", "label/value"))
            if held["label/id"] == [wanted]:
                return str(_readable(held["label/value"][0]))
    return ""


class Book:
    """Counts and the latest places of one case's log; a second look reads only what is new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "predictions"
        self._next = Place()
        self._counts: dict[int, Counter[int]] = {}
        self._latest: deque[Place] = deque(maxlen=LATEST)

    def look(self, versions: Sequence[int]) -> "Book":
        """Reads on to the end.

        Args:
            versions: Those that may have answered.

        Raises:
            ValueError: if a closed file is damaged.
        """
        if not self._folder.is_dir():
            return self
        # What was answered stands behind the features, so the last place counts where a client sent such bytes.
        marks = {number: entry("served/version", number) for number in versions}
        for place, record in read(self._folder, self._next):
            hits = {number: record.rfind(mark) for number, mark in marks.items()}
            number = max(hits, key=hits.__getitem__, default=0)
            self._counts.setdefault(place.file, Counter())[number if hits.get(number, -1) >= 0 else 0] += 1
            self._latest.append(place)
            self._next = after(place, record)
        return self

    def counts(self) -> Mapping[int, int]:
        """How many of the predictions that are kept each version answered; 0 stands for one that is not known."""
        there = {int(path.stem) for path in self._folder.glob("*.*") if path.stem.isdigit()}
        return sum((one for file, one in self._counts.items() if file in there), Counter())

    def latest(self, most: int = LATEST) -> list[Logged]:
        """The latest predictions, the newest first."""
        found = (find(self._folder, place) for place in list(self._latest)[::-1][:most])
        return [one for data in found if data and (one := _logged(data))]


def _logged(data: bytes) -> Logged | None:
    names = ("id", "key", "time", "version", "arm", "score", "decision")
    try:
        held = decode(data, {f"served/{name}" for name in names})
        told = {name: _readable(held[f"served/{name}"][0]) for name in names}
    except (ValueError, LookupError):
        return None
    when = datetime.fromtimestamp(told["time"] / 1e6, UTC).isoformat(sep=" ", timespec="seconds")[:19]
    return Logged(
        **{**told, "time": when, "version": int(told["version"]), "decision": str(told["decision"])}, record=data
    )


def _readable(value: Any) -> Any:
    if not isinstance(value, bytes):
        return round(value, 6) if isinstance(value, float) else value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"{len(value)} bytes"
