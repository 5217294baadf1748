"""The prediction log as examples: complete windows, labels joined to their predictions, no record twice."""

import json
from pathlib import Path

import pytest
import tensorflow as tf
from support.drift_case import CUT, FIRST, ROWS, append_records, encode_record, generate_day, log_days
from tfx.types import artifact_utils, standard_artifacts

from components.monitoring import log_example_gen
from components.monitoring.log_example_gen import LogExampleGen
from pipeline.monitoring import retraining_loop
from serving.gateway.log.log_files import LogPosition
from serving.gateway.log.tf_example import decode, encode_example


def run_example_gen(folder: Path, log: Path, stretch: dict) -> standard_artifacts.Examples:
    examples = standard_artifacts.Examples()
    examples.uri = str(folder)
    properties = {"log": str(log), "stretch": json.dumps(stretch), "cut": json.dumps(vars(CUT))}
    LogExampleGen.EXECUTOR_SPEC.executor_class().Do({}, {"examples": [examples]}, properties)
    return examples


def rows(folder: Path, split: str) -> list[bytes]:
    """The records of a split, read by TensorFlow."""
    paths = sorted(str(path) for path in (folder / f"Split-{split}").iterdir())
    return list(tf.data.TFRecordDataset(paths).as_numpy_iterator())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of three days, of which two are closed."""
    log_days(tmp_path / "log" / "predictions", 0, 1, 2)
    return tmp_path / "log"


def stretch(log: Path, since: LogPosition = LogPosition(), closed: int = -1) -> dict:  # noqa: B008 (frozen)
    scanned = retraining_loop.scan_log(log / "predictions", CUT, since, closed)
    return {**scanned, "labels_from": [0, 0], "labels_to": [9, 0]}


def test_each_closed_window_is_a_split_of_unchanged_records(log: Path, tmp_path: Path) -> None:
    examples = run_example_gen(tmp_path / "out", log, stretch(log))
    names = artifact_utils.decode_split_names(examples.split_names)
    assert names == [f"window-{FIRST}", f"window-{FIRST + 1}"]
    assert rows(tmp_path / "out", names[1]) == [encode_record(generate_day(1), n) for n in range(ROWS)]
    example_ = tf.train.Example.FromString(rows(tmp_path / "out", names[0])[0])
    assert example_.features.feature["served/version"].int64_list.value[0] == 1


def test_the_next_stretch_begins_where_this_one_ends(log: Path, tmp_path: Path) -> None:
    first = stretch(log)
    assert first["last"] == FIRST + 1
    assert retraining_loop.scan_log(log / "predictions", CUT, LogPosition(*first["next"]), first["last"]) is None
    log_days(log / "predictions", 3, 4)
    second = stretch(log, LogPosition(*first["next"]), first["last"])
    examples = run_example_gen(tmp_path / "out", log, second)
    assert artifact_utils.decode_split_names(examples.split_names) == [f"window-{FIRST + 2}", f"window-{FIRST + 3}"]
    assert rows(tmp_path / "out", f"window-{FIRST + 2}") == [encode_record(generate_day(2), n) for n in range(ROWS)]


def test_rows_added_after_the_scan_belong_to_the_next_stretch(log: Path, tmp_path: Path) -> None:
    earlier = stretch(log)
    log_days(log / "predictions", 3, 4)
    examples = run_example_gen(tmp_path / "out", log, earlier)
    assert artifact_utils.decode_split_names(examples.split_names) == [f"window-{FIRST}", f"window-{FIRST + 1}"]


def test_label_is_appended_to_its_prediction(tmp_path: Path) -> None:
    log, place = tmp_path / "log", 0
    predictions = [encode_example({"served/id": f"tiny.1.{place:x}.00000000", "amount": 5.0})]
    append_records(log / "predictions", predictions)
    label = [
        encode_example({"label/id": name, "label/value": 1, "label/time": 7})
        for name in (f"tiny.1.{place:x}.00000000", "tiny.7.0.00000000")
    ]
    append_records(log / "labels", label)
    limits = {"labels_from": [0, 0], "labels_to": [2, 0]}
    (joined,) = log_example_gen.read_labelled(log, limits)  # the other prediction's file is not kept any more
    assert decode(joined)["label/value"] == [1] and decode(joined)["amount"] == [5.0]
    assert tf.train.Example.FromString(joined).features.feature["amount"].float_list.value[0] == 5.0
    assert list(log_example_gen.read_labelled(log, {"labels_from": [0, 0], "labels_to": [1, 0]})) == []
