"""Drift monitor of one case beside the gateway: a separate process that follows the prediction log.

The gateway never waits for it. The monitor's state follows entirely from the log. It is written after each window to
keep a restart short: the position in the log where the open windows begin, the results so far, and the alerts not yet
delivered. After a kill between two writes, the monitor reads that part of the log again, with the same results.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serving.atomic_file import write_atomically
from serving.drift.alarms.judge import MAX_STORED, Judge, WindowPart, WindowResult
from serving.drift.alert_sinks import Sink, deliver
from serving.drift.profiles.watched_columns import VERSION
from serving.drift.profiles.windows import WindowAssigner, Windowing
from serving.drift.reference import reference_profile
from serving.gateway.log.log_files import LogPosition, next_position, read_log
from serving.gateway.log.tf_example import decode

STATE_FILE = "monitor.json"
BATCH_ROWS = 1024  # rows that are counted together
STEP_ROWS = 20_000  # rows that are read before the other cases get their turn
log = logging.getLogger(__name__)


class GatewayMonitor:
    """Follows the prediction log of one case.

    Args:
        case: Name of the case, for alerts.
        folder: Contains ``predictions``; the state is written there.
        versions: Folder of the case's pushed versions.
        cut: How the log is divided into windows.
        sinks: Where alerts are sent.
    """

    def __init__(self, case: str, folder: Path, versions: Path, cut: Windowing, sinks: Sequence[Sink]) -> None:
        self.case, self.folder, self.versions, self.cut, self.sinks = case, folder, versions, cut, sinks
        state = _read_state(folder / STATE_FILE)
        self.judge = Judge(lambda version: reference_profile.load_version(versions, version), cut.least)
        if state:
            self.judge.load(state["judge"])
        self.cutter = WindowAssigner(cut, state.get("closed", -1))
        self.cutter.late = state.get("late", 0)
        self.place = LogPosition(*state.get("place", (0, 0)))
        self.pending: list[dict[str, Any]] = state.get("pending", [])
        self.windows = [WindowResult.read(fields) for fields in state.get("windows", [])]
        self._parts: dict[int, dict[int, WindowPart]] = {}
        self._uncounted: dict[tuple[int, int], list[bytes]] = {}
        self._fields = frozenset((VERSION, cut.time))
        self._unmonitored: set[int] = set()

    def step(self, most: int = STEP_ROWS) -> list[WindowResult]:
        """Read at most ``most`` new rows of the log; return the results of the windows that were closed."""
        results: list[WindowResult] = []
        for count, (place, record) in enumerate(read_log(self.folder / "predictions", self.place), 1):
            self.place = next_position(place, record)
            results += self._add_record(place, record)
            if count >= most:
                break
        if results or self.pending:
            self.pending = deliver(self.pending, self.sinks)
            self._save()
        return results

    def _add_record(self, place: LogPosition, record: bytes) -> list[WindowResult]:
        row = decode(record, self._fields)
        window = self.cutter.take(place, (row.get(self.cut.time) or (None,))[0])
        if window is None:
            return []
        rows = self._uncounted.setdefault((window, row[VERSION][0]), [])
        rows.append(record)
        if len(rows) >= BATCH_ROWS:
            self._profile_rows(window, row[VERSION][0])
        return [self._close_window(number) for number in self.cutter.over()]

    def _close_window(self, window: int) -> WindowResult:
        for number, version in [key for key in self._uncounted if key[0] == window]:
            self._profile_rows(number, version)
        parts = self._parts.pop(window, {})
        judged = self.judge.observe(window, parts) if parts else _result_without_reference(window)
        self.windows = [*self.windows, judged][-MAX_STORED:]
        for what, incident in judged.news:
            self.pending.append(
                {
                    "case": self.case,
                    "version": judged.version,
                    "window": window,
                    "daily": bool(self.cut.time),
                    "what": what,
                    "incident": dict(incident),
                }
            )
        return judged

    def _profile_rows(self, window: int, version: int) -> None:
        """Profile the collected rows of a window with the reference of the version that answered them."""
        records = self._uncounted.pop((window, version))
        try:
            reference = reference_profile.load_version(self.versions, version)
        except ValueError as error:
            if version not in self._unmonitored:
                log.warning("Version %d of %s is not monitored: %s", version, self.case, error)
            self._unmonitored.add(version)
            return
        part = profile_records(reference, records)
        parts = self._parts.setdefault(window, {})
        parts[version] = parts[version] + part if version in parts else part

    def _save(self) -> None:
        start = self.cutter.since(self.place)
        state = {
            "place": [start.file, start.offset],
            "closed": self.cutter.closed,
            "late": self.cutter.late,
            "judge": self.judge.state(),
            "windows": [asdict(window) for window in self.windows],
            "pending": self.pending,
        }
        write_atomically(self.folder / STATE_FILE, json.dumps(state).encode())


def profile_records(reference: reference_profile.ReferenceProfile, records: Sequence[bytes]) -> WindowPart:
    """Profile the records of the log that one version answered."""
    frame, scores = reference.watched.records(records)
    return WindowPart(reference.profile(frame), reference.watched.confidence(scores))


def _result_without_reference(window: int) -> WindowResult:
    return WindowResult(window, 0, 0, "No version that answered has a reference profile.")


def _read_state(path: Path) -> dict[str, Any]:
    """The state; empty if there is none or the file is damaged, since the log holds everything."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
