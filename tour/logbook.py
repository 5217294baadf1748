"""Read the prediction log: the latest predictions, a prediction by id, and the number of predictions by version."""

import re
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serving.gateway.log.log_files import LogPosition, find_record, next_position, read_log
from serving.gateway.log.tf_example import decode

IDENTITY = re.compile(r"([a-z0-9_-]{1,40})\.([0-9a-f]{1,8})\.([0-9a-f]{1,12})\.[0-9a-f]{8}")
MAX_LATEST = 30
VERSION = "served/version"


@dataclass(frozen=True)
class LoggedPrediction:
    """A logged prediction.

    Attributes:
        id: Id from the response.
        time: Time of the response, UTC.
        key: The client's key of the row.
        version: Version of the model.
        arm: stable or canary.
        score: Output of the model.
        decision: Decision based on the score.
        record: Serialized example with features and response.
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
        """Features of the request, binary values replaced by their size."""
        features = {name: values for name, values in decode(self.record).items() if "/" not in name}
        return {name: [_to_readable(value) for value in values] for name, values in features.items()}


def find_prediction(folder: Path, identity: str) -> LoggedPrediction | None:
    """The prediction with the given id; None if it is not or no longer in the log.

    Args:
        folder: Folder of the case's log, with ``predictions`` and ``labels``.
        identity: Id of the prediction.
    """
    parts = IDENTITY.fullmatch(identity)
    data = find_record(folder / "predictions", LogPosition(int(parts[2], 16), int(parts[3], 16))) if parts else None
    logged = _parse_record(data) if data else None
    return logged if logged and logged.id == identity else None


def find_label(folder: Path, identity: str) -> str:
    """The label of a prediction; empty if none has arrived."""
    encoded = identity.encode()
    for path in sorted((folder / "labels").glob("*.*")):
        if encoded not in path.read_bytes():
            continue
        for _, record in read_log(folder / "labels", LogPosition(int(path.stem), 0)):
            fields = decode(record, ("label/id", "label/value"))
            if fields["label/id"] == [encoded]:
                return str(_to_readable(fields["label/value"][0]))
    return ""


class PredictionLogReader:
    """Counts and latest predictions of a case's log; repeated calls read only new records."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "predictions"
        self._next = LogPosition()
        self._version_counts: dict[int, Counter[int]] = {}
        self._latest: deque[LogPosition] = deque(maxlen=MAX_LATEST)

    def refresh(self) -> "PredictionLogReader":
        """Read to the end of the log.

        Raises:
            ValueError: if a closed file is damaged.
        """
        if not self._folder.is_dir():
            return self
        for place, record in read_log(self._folder, self._next):
            (number,) = decode(record, (VERSION,)).get(VERSION) or (0,)
            self._version_counts.setdefault(place.file, Counter())[number] += 1
            self._latest.append(place)
            self._next = next_position(place, record)
        return self

    def counts(self) -> Mapping[int, int]:
        """Number of predictions in the existing files by version; key 0 counts unknown versions."""
        files = {int(path.stem) for path in self._folder.glob("*.*") if path.stem.isdigit()}
        return sum((counts for file, counts in self._version_counts.items() if file in files), Counter())

    def latest(self, most: int = MAX_LATEST) -> list[LoggedPrediction]:
        """The latest predictions, newest first."""
        records = (find_record(self._folder, place) for place in list(self._latest)[::-1][:most])
        return [logged for data in records if data and (logged := _parse_record(data))]


def _parse_record(data: bytes) -> LoggedPrediction | None:
    names = ("id", "key", "time", "version", "arm", "score", "decision")
    try:
        values = decode(data, {f"served/{name}" for name in names})
        fields = {name: _to_readable(values[f"served/{name}"][0]) for name in names}
    except (ValueError, LookupError):
        return None
    time = datetime.fromtimestamp(fields["time"] / 1e6, UTC).isoformat(sep=" ", timespec="seconds")[:19]
    return LoggedPrediction(
        **{**fields, "time": time, "version": int(fields["version"]), "decision": str(fields["decision"])}, record=data
    )


def _to_readable(value: Any) -> Any:
    if not isinstance(value, bytes):
        return round(value, 6) if isinstance(value, float) else value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"{len(value)} bytes"
