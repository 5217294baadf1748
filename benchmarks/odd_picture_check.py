"""What reading a folder of pictures has to give: every file accounted for, and equal pixels in training and at the gateway."""

import base64
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.odd_pictures import SETTINGS, PictureCase
from models.data.data_report import DataReport
from models.errors import DataError
from models.image import data
from models.image.case import CASE
from models.image.online_requests import Picture, Pictures
from models.image.raw import readers
from models.spans import find_spans


def check_picture_case(case: PictureCase) -> str:
    """Read a case and return what became of it: read, refused or damaged.

    Raises:
        AssertionError: if a file is not accounted for, a fault is not refused, data without a fault is refused, a picture has
            another class or split than it should, or other pixels at the gateway.
    """
    spans = find_spans(case.source)
    try:
        report = data.check(spans, {**CASE.settings["data"], **SETTINGS})
    except DataError as error:
        assert case.fault or case.damaged, f"refused: {error}"
        return "refused" if case.fault else "damaged"
    "\n".join([*report.describe(), report.error()]).encode()
    assert report.files_given == case.files, f"{report.files_given} of {case.files} files are accounted for"
    assert sum(split.rows for split in report.splits.values()) == report.rows == report.files
    rows = _read_rows(spans, report)
    check_pixels({key: row["image"] for key, row in rows.items()})
    if case.damaged:
        return "damaged"
    assert bool(report.refused) == bool(case.fault), f"fault {case.fault!r}, but refused {report.refused}"
    if case.fault:
        return "refused"
    splits = {name: split.rows for name, split in report.splits.items()}
    assert splits == dict(case.splits), f"splits {splits}, not {dict(case.splits)}; {report.describe()}"
    assert rows.keys() == case.pictures.keys(), sorted(map(str, rows.keys() ^ case.pictures.keys()))
    for place, (content, label, _) in case.pictures.items():
        row, request = rows[place], make_request_row(content)
        assert row["label"] == label, f"{place} has the class {row['label']}, not {label}"
        assert row["image"] == request["image"], f"{place} has other pixels at the gateway"
        for name in ("brightness", "contrast"):
            assert row[name] == np.float32(request[name]), f"{place} has another {name} at the gateway"
    return "read"


def _read_rows(spans: Mapping[int, Path], report: DataReport) -> dict[tuple[Path, str], dict[str, Any]]:
    """Return the rows that training reads, by span and key; none if it refuses them, as the report has to, too."""
    try:
        rows = {
            (span, row["key"]): row
            for span in spans.values()
            for batch in readers.read(span)
            for row in batch.to_pylist()
        }
    except DataError:
        assert report.refused, "reading refuses what the account does not"
        return {}
    assert len(rows) == report.rows, "reading and the account count other pictures"
    return rows


def make_request_row(content: bytes) -> dict[str, Any]:
    """Return the row that the gateway makes of a file."""
    return Pictures().row(Picture(image=base64.b64encode(content).decode()))


def check_pixels(images: Mapping[Any, bytes]) -> None:
    """Check that converted files stay as they are, and that the graph decodes PNG files to Pillow's pixels.

    JPEG files are left out, as the decoders round differently.
    """
    import tensorflow as tf  # a local import: the mode for tables does without

    for place, content in images.items():
        assert make_request_row(content)["image"] == content, f"{place} is converted twice"
        with Image.open(BytesIO(content)) as image:
            pixels = np.asarray(image)
        decoded = tf.io.decode_image(content, expand_animations=False).numpy()
        assert decoded.shape[:2] == pixels.shape[:2], place
        if content.startswith(b"\x89PNG"):
            assert (decoded.reshape(pixels.shape) == pixels).all(), f"{place} has other pixels in the graph"
