"""The gateway's monitor of one case: follows the prediction log, in a process beside the gateway, which never waits for it.

All it knows follows from the log. Its state, written after each window, keeps a restart short: the place in the log from
which on the open windows lie, the verdict so far, and news not yet delivered. A kill between two writes makes it read that
part of the log again, with the same outcome.
"""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serving.drift.alarms.judge import MOST, Judge, Judged, Part
from serving.drift.alert_sinks import Sink, delivered
from serving.drift.profiles.watched_columns import VERSION
from serving.drift.profiles.windows import Cut, Cutter
from serving.drift.reference import reference_profile
from serving.gateway.log.log_files import Place, after, read, synced
from serving.gateway.log.tf_example import decode

STATE = "monitor.json"
BATCH = 1024  # rows that are counted together
STEP = 20_000  # rows after which a reader of a long log gives others a turn
log = logging.getLogger(__name__)


class Live:
    """Follows one case's log.

    Args:
        case: Its name, for the news.
        folder: Holds ``predictions``; the state is written there.
        versions: The case's pushed versions.
        cut: How the log is cut into windows.
        sinks: Where news goes.
    """

    def __init__(self, case: str, folder: Path, versions: Path, cut: Cut, sinks: Sequence[Sink]) -> None:
        self.case, self.folder, self.versions, self.cut, self.sinks = case, folder, versions, cut, sinks
        told = _read(folder / STATE)
        self.judge = Judge(lambda version: reference_profile.of_version(versions, version), cut.least)
        if told:
            self.judge.load(told["judge"])
        self.cutter = Cutter(cut, told.get("closed", -1))
        self.cutter.late = told.get("late", 0)
        self.place = Place(*told.get("place", (0, 0)))
        self.pending: list[dict[str, Any]] = told.get("pending", [])
        self.windows = [Judged.read(one) for one in told.get("windows", [])]
        self._parts: dict[int, dict[int, Part]] = {}
        self._waiting: dict[tuple[int, int], list[bytes]] = {}
        self._wanted = frozenset((VERSION, cut.time))
        self._unknown: set[int] = set()

    def step(self, most: int = STEP) -> list[Judged]:
        """Reads what is new in the log, at most so many rows; returns the windows that are over now."""
        found: list[Judged] = []
        for count, (place, record) in enumerate(read(self.folder / "predictions", self.place), 1):
            self.place = after(place, record)
            found += self._take(place, record)
            if count >= most:
                break
        if found or self.pending:
            self.pending = delivered(self.pending, self.sinks)
            self._save()
        return found

    def _take(self, place: Place, record: bytes) -> list[Judged]:
        told = decode(record, self._wanted)
        window = self.cutter.take(place, (told.get(self.cut.time) or (None,))[0])
        if window is None:
            return []
        rows = self._waiting.setdefault((window, told[VERSION][0]), [])
        rows.append(record)
        if len(rows) >= BATCH:
            self._count(window, told[VERSION][0])
        return [self._close(one) for one in self.cutter.over()]

    def _close(self, window: int) -> Judged:
        for number, version in [key for key in self._waiting if key[0] == window]:
            self._count(number, version)
        parts = self._parts.pop(window, {})
        judged = self.judge.observe(window, parts) if parts else _unjudged(window)
        self.windows = [*self.windows, judged][-MOST:]
        for what, incident in judged.news:
            self.pending.append(
                {
                    "case": self.case,
                    "version": judged.version,
                    "window": window,
                    "what": what,
                    "incident": dict(incident),
                }
            )
        return judged

    def _count(self, window: int, version: int) -> None:
        """Counts rows that wait, by what the version that answered them calls normal."""
        records = self._waiting.pop((window, version))
        try:
            known = reference_profile.of_version(self.versions, version)
        except ValueError as error:
            if version not in self._unknown:
                log.warning("version %d of %s is not watched: %s", version, self.case, error)
            self._unknown.add(version)
            return
        part = counted(known, records)
        parts = self._parts.setdefault(window, {})
        parts[version] = parts[version] + part if version in parts else part

    def _save(self) -> None:
        since = self.cutter.since(self.place)
        told = {
            "place": [since.file, since.offset],
            "closed": self.cutter.closed,
            "late": self.cutter.late,
            "judge": self.judge.state(),
            "windows": [asdict(one) for one in self.windows],
            "pending": self.pending,
        }
        beside = self.folder / f".{STATE}.{os.getpid()}"
        with beside.open("w") as stream:
            json.dump(told, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, self.folder / STATE)
        synced(self.folder)


def counted(known: reference_profile.Normal, records: Sequence[bytes]) -> Part:
    """What a version answered in some records of the log."""
    frame, scores = known.watched.records(records)
    return Part(known.profile(frame), known.watched.confidence(scores))


def _unjudged(window: int) -> Judged:
    return Judged(window, 0, 0, "No version that answered says what is normal.")


def _read(path: Path) -> dict[str, Any]:
    """The state; none where there is none, or one that is damaged: the log still has everything."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
