"""ExampleGen over a stretch of the prediction log: a split for each closed window, and the labels that arrived since."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples

from serving.drift.profiles.windows import WindowAssigner, Windowing
from serving.gateway.log import tfrecords
from serving.gateway.log.log_files import LogPosition, find_record, read_log
from serving.gateway.log.tf_example import decode

SHARD = 8192  # records in a file
LABELS = "labels"
PLACES = "places.json"
PARTS = ("label/id", "label/value", "label/time")


@component
def LogExampleGen(
    log: Parameter[str], stretch: Parameter[str], cut: Parameter[str], examples: OutputArtifact[Examples]
) -> None:
    """Copy the records of closed windows, which are serialized examples already, into splits ``window-N``.

    A further folder, ``Split-labels``, holds the labelled predictions, each record with its label appended. An example
    is a map, so the two together are again one example. It is not among the listed splits, since it gets no statistics.
    ``places.json`` gives the position in the log where each window begins.

    Args:
        log: Folder with ``predictions`` and ``labels``.
        stretch: JSON with the log positions ``from``, ``to``, ``labels_from`` and ``labels_to``, and ``closed``, the
            last window closed before this stretch.
        cut: How the log is cut into windows, as JSON.
        examples: Output.
    """
    options, folder = json.loads(stretch), Path(log)
    closed = read_windows(folder / "predictions", options, Windowing(**json.loads(cut)))
    for window, rows in closed.items():
        _write(Path(examples.uri, f"Split-window-{window}"), [record for _, record in rows])
    _write(Path(examples.uri, f"Split-{LABELS}"), list(read_labelled(folder, options)))
    begins = {window: [min(rows)[0].file, min(rows)[0].offset] for window, rows in closed.items()}
    Path(examples.uri, PLACES).write_text(json.dumps(begins))
    examples.split_names = artifact_utils.encode_split_names([f"window-{window}" for window in closed])


def read_windows(
    folder: Path, options: Mapping[str, Any], cut: Windowing
) -> dict[int, list[tuple[LogPosition, bytes]]]:
    """Records with their log positions, by window, of the windows that are closed at the end of the stretch."""
    cutter, end = WindowAssigner(cut, options["closed"]), LogPosition(*options["to"])
    rows: dict[int, list[tuple[LogPosition, bytes]]] = {}
    closed: list[int] = []
    for place, record in read_log(folder, LogPosition(*options["from"])):
        if place >= end:
            break
        window = cutter.take(place, event_seconds(record, cut))
        if window is not None:
            rows.setdefault(window, []).append((place, record))
        closed += cutter.over()
    return {window: rows[window] for window in closed}


def event_seconds(record: bytes, cut: Windowing) -> int | None:
    """The record's event time in seconds; None where windows are not cut by time or the record has none."""
    return (decode(record, (cut.time,)).get(cut.time) or (None,))[0] if cut.time else None


def read_labelled(folder: Path, options: Mapping[str, Any]) -> Iterator[bytes]:
    """Records of predictions whose label lies in the stretch; predictions deleted from the log are left out."""
    end = LogPosition(*options["labels_to"])
    for place, record in read_log(folder / "labels", LogPosition(*options["labels_from"])):
        if place >= end:
            return
        label = decode(record, PARTS)
        _, file, offset, _ = label["label/id"][0].decode().rsplit(".", 3)
        served = find_record(folder / "predictions", LogPosition(int(file, 16), int(offset, 16)))
        if served is not None:
            yield join_label(served, record)


def join_label(served: bytes, label: bytes) -> bytes:
    """Join a prediction and its label into one example.

    Concatenated protocol buffer messages parse as one message, in which the last value of a key counts.
    """
    return served + label


def _write(folder: Path, rows: list[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(rows), SHARD)):
        data = b"".join(tfrecords.frame_record(row) for row in rows[start : start + SHARD])
        (folder / f"examples-{number:05d}").write_bytes(data)
