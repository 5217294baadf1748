"""The rule by which a version's ``model_raw.tflite`` is used: the gate's record names its content."""

import json
from pathlib import Path

import pytest

from serving.edge import raw_model

CONTENT = b"a model"
RECORD = raw_model.make_record(CONTENT, {"difference": 1e-7})


def write_version(folder: Path, record: object, content: bytes | None = CONTENT) -> Path:
    (folder / "assets.extra").mkdir()
    if content is not None:
        (folder / raw_model.FILE).write_bytes(content)
    (folder / raw_model.RECORD).write_text(record if isinstance(record, str) else json.dumps(record))
    return folder


def test_the_file_that_the_gate_passed_is_read(tmp_path: Path) -> None:
    assert raw_model.read_passed(write_version(tmp_path, {"chosen": "int8", "raw": RECORD})) == CONTENT
    assert RECORD["bytes"] == 7 and RECORD["difference"] == 1e-7


@pytest.mark.parametrize(
    "record",
    [
        {"chosen": "int8"},
        {"raw": {"missing": "LiteRT has no kernel for DecodeImage"}},
        {"raw": raw_model.make_record(b"another model", {})},
        {"raw": "passed"},
        {"raw": None},
        ["raw"],
        "not JSON",
    ],
)
def test_a_file_that_the_record_does_not_name_is_not_read(tmp_path: Path, record: object) -> None:
    assert raw_model.read_passed(write_version(tmp_path, record)) is None


def test_without_a_file_or_a_record_nothing_is_read(tmp_path: Path) -> None:
    assert raw_model.read_passed(tmp_path) is None
    assert raw_model.read_passed(write_version(tmp_path, {"raw": RECORD}, content=None)) is None
    (tmp_path / raw_model.FILE).write_bytes(CONTENT)
    (tmp_path / raw_model.RECORD).unlink()
    assert raw_model.read_passed(tmp_path) is None
