"""Served rows with their late labels as new raw spans behind those that the served model was trained on."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from models import spans
from models.errors import DataError
from models.use_case import UseCase
from pipeline.metadata import store
from pipeline.monitoring.decisions import Decided
from pipeline.monitoring.sidecar import cut
from pipeline.runtime import Runtime
from serving.drift.profiles.windows import Cutter
from serving.gateway.history.online_store import LABELS, PREDICTIONS, last
from serving.gateway.log.log_files import read
from serving.gateway.log.tf_example import decode

COLLECTED = "collected.json"


def collect(case: UseCase, runtime: Runtime, decided: Decided, base: store.Run) -> Path:
    """The folder of spans that a retraining reads: made whole or not at all, once a decision.

    The spans of the base's window are there under their numbers; every window of the log that they do not hold follows.
    A window that an earlier retraining has collected is written again, since labels have come in the meantime.

    Raises:
        DataError: if the log holds no new window.
    """
    out = Path(runtime.root, case.name, "collected", decided.id)
    if (out / COLLECTED).is_file():
        return out
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    source, settings = Path(base.facts["source"]), json.loads(base.facts["settings"])["data"]
    # Days of the data count as windows do.
    known = {"windows": {}, "covered": settings.get("last_day", -1)}
    if (source / COLLECTED).is_file():
        known = json.loads((source / COLLECTED).read_text())
    numbers, covered = {int(window): number for window, number in known["windows"].items()}, known["covered"]
    rows = {
        window: held for window, held in served(case, runtime, decided.record["window"]).items() if window > covered
    }
    first, end = map(int, base.facts["spans"].split(":"))
    end = max(end, *numbers.values()) if numbers else end
    for window in sorted(set(rows) - set(numbers)):
        end += 1
        numbers[window] = end
    for number, folder in spans.window(source, first, int(base.facts["spans"].split(":")[1])).items():
        _linked(beside / f"span-{number:03d}", folder)
    count = {window: _written(case, beside / f"span-{numbers[window]:03d}", rows[window], settings) for window in rows}
    if not sum(count.values()):
        raise DataError(
            f"The log of {case.name} holds no labelled row to learn from that the served model does not know."
        )
    told = {"windows": numbers, "covered": covered, "rows": count, "base": base.id}
    (beside / COLLECTED).write_text(json.dumps(told, indent=1))
    os.replace(beside, out)
    return out


def served(case: UseCase, runtime: Runtime, until: int) -> dict[int, list[dict[str, Any]]]:
    """Rows of the log by window, up to a window, each with its label; of two with one key the later counts."""
    folder = Path(runtime.root, case.name, "online")
    labels = _labels(folder / LABELS)
    cutter = Cutter(cut(case))
    windows: dict[int, dict[Any, dict[str, Any]]] = {}
    for place, record in read(folder / PREDICTIONS):
        told = decode(record)
        window = cutter.take(place, told[case.time][0] if case.time else None)
        cutter.over()
        if window is None or window > until:
            continue
        key = told["served/key"][0].decode()
        label, known = labels.get(key, (None, None))
        row = {"key": key, "features": told, "journal": orjson.loads(last(record)), "label": label, "known": known}
        windows.setdefault(window, {})[key] = row
    return {window: list(rows.values()) for window, rows in windows.items()}


def _labels(folder: Path) -> dict[str, tuple[Any, int]]:
    """Label and time of it by key."""
    found = {}
    for _, record in read(folder):
        told = decode(record)
        value = told["label/value"][0]
        value = value.decode() if isinstance(value, bytes) else value
        found[told["label/key"][0].decode()] = (value, told["label/time"][0])
    return found


def _linked(place: Path, folder: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(folder.resolve(), target_is_directory=True)


def _written(case: UseCase, folder: Path, rows: list[dict[str, Any]], settings: Mapping[str, Any]) -> int:
    if folder.is_symlink():
        folder.unlink()
    return case.load("collected").write(folder, rows, settings)
