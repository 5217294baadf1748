"""Write served rows with their late labels as new raw spans after those that the served model was trained on."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models import spans
from models.errors import DataError
from models.use_case import UseCase
from pipeline.monitoring.decisions import StoredDecision
from pipeline.monitoring.sidecar import window_cut
from pipeline.run import Run
from pipeline.runtime import Runtime
from serving.drift.profiles.windows import WindowAssigner
from serving.gateway.history.online_store import LABELS, PREDICTIONS, read_journal
from serving.gateway.log.log_files import read_log
from serving.gateway.log.tf_example import decode

COLLECTED = "collected.json"


class NoLabelsError(DataError):
    """No label has arrived yet for a row that the retraining needs."""


def collect(case: UseCase, runtime: Runtime, decided: StoredDecision, base: Run) -> Path:
    """Return the folder of spans that a retraining reads; it is created atomically, once per decision.

    The spans of the base run's window keep their numbers; every later window of the log becomes a further span.
    A window that an earlier retraining has collected is written again, because more labels have arrived since.

    Raises:
        NoLabelsError: if the log has no labelled row in a new window.
    """
    out = runtime.case(case.name).collected / decided.id
    if (out / COLLECTED).is_file():
        return out
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    source, settings = Path(base.source), base.settings["data"]
    # Days of the data and windows of the log have the same numbering.
    earlier = {"windows": {}, "covered": settings.get("last_day", -1)}
    if (source / COLLECTED).is_file():
        earlier = json.loads((source / COLLECTED).read_text())
    numbers, covered = {int(window): number for window, number in earlier["windows"].items()}, earlier["covered"]
    windows = read_served_rows(case, runtime, decided.record["window"])
    rows = {window: served_rows for window, served_rows in windows.items() if window > covered}
    first, end = base.window
    end = max(end, *numbers.values()) if numbers else end
    for window in sorted(set(rows) - set(numbers)):
        end += 1
        numbers[window] = end
    for number, folder in spans.select_window(source, first, base.window[1]).items():
        _link(temporary / f"span-{number:03d}", folder)
    row_counts = {
        window: _write_span(case, temporary / f"span-{numbers[window]:03d}", rows[window], settings) for window in rows
    }
    if not sum(row_counts.values()):
        raise NoLabelsError(
            f"The prediction log of {case.name} has no labelled row that is newer than the served model's training data."
        )
    summary = {"windows": numbers, "covered": covered, "rows": row_counts, "base": base.id}
    (temporary / COLLECTED).write_text(json.dumps(summary, indent=1))
    os.replace(temporary, out)
    return out


def read_served_rows(case: UseCase, runtime: Runtime, until: int) -> dict[int, list[dict[str, Any]]]:
    """Return the rows of the log by window, up to and including a window, each with its label.

    Of two rows with the same key in a window, the later one is used.
    """
    folder = runtime.case(case.name).online
    labels = _read_labels(folder / LABELS)
    cutter = WindowAssigner(window_cut(case))
    windows: dict[int, dict[Any, dict[str, Any]]] = {}
    for position, record in read_log(folder / PREDICTIONS):
        values = decode(record)
        window = cutter.take(position, values[case.time][0] if case.time else None)
        cutter.over()
        if window is None or window > until:
            continue
        key = values["served/key"][0].decode()
        label, label_time = labels.get(key, (None, None))
        row = {
            "key": key,
            "features": values,
            "journal": read_journal(record),
            "label": label,
            "known": label_time,
        }
        windows.setdefault(window, {})[key] = row
    return {window: list(rows.values()) for window, rows in windows.items()}


def _read_labels(folder: Path) -> dict[str, tuple[Any, int]]:
    """Return label and label time by key."""
    labels = {}
    for _, record in read_log(folder):
        values = decode(record)
        value = values["label/value"][0]
        value = value.decode() if isinstance(value, bytes) else value
        labels[values["label/key"][0].decode()] = (value, values["label/time"][0])
    return labels


def _link(link: Path, folder: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder.resolve(), target_is_directory=True)


def _write_span(case: UseCase, folder: Path, rows: list[dict[str, Any]], settings: Mapping[str, Any]) -> int:
    if folder.is_symlink():
        folder.unlink()
    return case.load("collected").write(folder, rows, settings)
