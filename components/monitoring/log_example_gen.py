"""ExampleGen over a stretch of the prediction log: a split a window that is over, and the labels that have come since."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import Examples

from serving.drift.profiles.windows import Cut, Cutter
from serving.gateway.log import tfrecords
from serving.gateway.log.log_files import Place, find, read
from serving.gateway.log.tf_example import decode

SHARD = 8192  # records of a file
LABELS = "labels"
PLACES = "places.json"
PARTS = ("label/id", "label/value", "label/time")


@component
def LogExampleGen(
    log: Parameter[str], stretch: Parameter[str], cut: Parameter[str], examples: OutputArtifact[Examples]
) -> None:
    """Copies the records of windows that are over into splits ``window-N``; they are serialized examples as they are.

    Beside them, not among the listed splits since it has no statistics: ``labels``, the records of labelled predictions,
    each with its label behind it. An example is a map, so both are again one example. ``places.json`` says where in the log
    each window begins.

    Args:
        log: Folder with ``predictions`` and ``labels``.
        stretch: As JSON, places ``from`` and ``to``, ``labels_from`` and ``labels_to``, and ``closed``, the last window
            that was over before.
        cut: How the log is cut, as JSON.
        examples: What is written.
    """
    told, folder = json.loads(stretch), Path(log)
    found = windows(folder / "predictions", told, Cut(**json.loads(cut)))
    for window, rows in found.items():
        _write(Path(examples.uri, f"Split-window-{window}"), [record for _, record in rows])
    _write(Path(examples.uri, f"Split-{LABELS}"), list(labelled(folder, told)))
    begins = {window: [min(rows)[0].file, min(rows)[0].offset] for window, rows in found.items()}
    Path(examples.uri, PLACES).write_text(json.dumps(begins))
    examples.split_names = artifact_utils.encode_split_names([f"window-{window}" for window in found])


def windows(folder: Path, told: Mapping[str, Any], cut: Cut) -> dict[int, list[tuple[Place, bytes]]]:
    """Records with their places by window, of windows that are over at the stretch's end."""
    cutter, end = Cutter(cut, told["closed"]), Place(*told["to"])
    rows: dict[int, list[tuple[Place, bytes]]] = {}
    over: list[int] = []
    for place, record in read(folder, Place(*told["from"])):
        if place >= end:
            break
        window = cutter.take(place, seconds(record, cut))
        if window is not None:
            rows.setdefault(window, []).append((place, record))
        over += cutter.over()
    return {window: rows[window] for window in over}


def seconds(record: bytes, cut: Cut) -> int | None:
    """A record's own time, where it has one."""
    return (decode(record, (cut.time,)).get(cut.time) or (None,))[0] if cut.time else None


def labelled(folder: Path, told: Mapping[str, Any]) -> Iterator[bytes]:
    """Records of predictions whose label lies in the stretch; what is no longer kept is left out."""
    end = Place(*told["labels_to"])
    for place, record in read(folder / "labels", Place(*told["labels_from"])):
        if place >= end:
            return
        label = decode(record, PARTS)
        _, file, offset, _ = label["label/id"][0].decode().rsplit(".", 3)
        served = find(folder / "predictions", Place(int(file, 16), int(offset, 16)))
        if served is not None:
            yield joined(served, record)


def joined(served: bytes, label: bytes) -> bytes:
    """One example of both: serialized messages one behind the other are one message, and the last value of a name counts."""
    return served + label


def _write(folder: Path, rows: list[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(rows), SHARD)):
        data = b"".join(tfrecords.framed(row) for row in rows[start : start + SHARD])
        (folder / f"examples-{number:05d}").write_bytes(data)
