"""DriftMonitor: the verdicts of the gateway's monitor in any number of passes, and late labels."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn.metrics import average_precision_score
from support.drift_case import (
    CUT,
    FIRST,
    ROWS,
    append_records,
    encode_record,
    generate_day,
    log_days,
    save_profiles,
)
from tfx.dsl.components.base import base_beam_executor
from tfx.types import Artifact, standard_artifacts

from components.monitoring import drift_monitor
from components.monitoring.drift_monitor import DriftMonitor, DriftReport, MergeParts
from components.monitoring.log_example_gen import LogExampleGen
from pipeline.local.local_runtime import local_runtime
from pipeline.monitoring import retraining_loop
from serving.drift.alarms.judge import WindowPart
from serving.drift.gateway_monitor import GatewayMonitor, profile_records
from serving.drift.reference.reference_profile import ReferenceProfile
from serving.gateway.log.log_files import LogPosition, read_log
from serving.gateway.log.tf_example import decode, encode_example


@pytest.fixture
def home(tmp_path: Path, drift_profile: ReferenceProfile, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a version, and TFDV's statistics of its eval split."""
    monkeypatch.setattr(sys, "argv", ["showcase"])  # TFX reads flags from it
    save_profiles(tmp_path / "versions", drift_profile)
    (tmp_path / "versions/1/assets.extra/profile.pb").write_bytes(statistics(generate_day(-1)))
    return tmp_path


def statistics(rows: dict[str, Any]) -> bytes:
    import tensorflow_data_validation as tfdv

    frame = pl.DataFrame({name: rows[name] for name in ("amount", "channel")}).to_pandas()
    return tfdv.generate_statistics_from_dataframe(frame).SerializeToString()


def at(kind: type, folder: Path) -> Artifact:
    artifact = kind()
    artifact.uri = str(folder)
    return artifact


def monitor_once(home: Path, name: str, reading: dict, previous: Path | None = None) -> tuple[dict, dict]:
    """Run one pass over the new part of the log; return the stretch that was read, and the report."""
    stretch = {
        **retraining_loop.scan_log(home / "predictions", CUT, LogPosition(*reading["next"]), reading["last"]),
        "labels_from": reading["labels_to"],
        "labels_to": [9, 0],
    }
    examples = at(standard_artifacts.Examples, home / name / "examples")
    config = {"log": str(home), "stretch": json.dumps(stretch), "cut": json.dumps(asdict(CUT))}
    LogExampleGen.EXECUTOR_SPEC.executor_class().Do({}, {"examples": [examples]}, config)
    described = at(standard_artifacts.ExampleStatistics, home / name / "statistics")
    for folder in Path(examples.uri).glob("Split-window-*"):
        directory = Path(described.uri, folder.name)
        directory.mkdir(parents=True)
        (directory / "FeatureStats.pb").write_bytes(
            statistics(generate_day(int(folder.name.rpartition("-")[2]) - FIRST))
        )
    report = at(DriftReport, home / name / "report")
    Path(report.uri).mkdir()
    inputs = {
        "examples": [examples],
        "statistics": [described],
        "model": [at(standard_artifacts.PushedModel, home / "versions/1")],
    }
    inputs |= {"previous": [at(DriftReport, previous)]} if previous else {}
    context = base_beam_executor.BaseBeamExecutor.Context(list(local_runtime(home).beam_args), str(home / "tmp"), "1")
    config = {"config": json.dumps({"case": "tiny", "cut": asdict(CUT), "versions": str(home / "versions")})}
    DriftMonitor.EXECUTOR_SPEC.executor_class(context).Do(inputs, {"report": [report]}, config)
    return stretch, json.loads((home / name / "report" / drift_monitor.REPORT).read_text())


def test_verdicts_equal_the_gateway_monitors_in_one_or_two_passes(home: Path) -> None:
    log_days(home / "predictions", 0, 1, 2)
    first, report = monitor_once(home, "one", retraining_loop.FIRST_READING)
    log_days(home / "predictions", 3, 4, factor=1.3)
    _, second = monitor_once(home, "two", first, home / "one" / "report")
    live = GatewayMonitor("tiny", home, home / "versions", CUT, [])
    expected = json.loads(json.dumps([asdict(verdict) for verdict in live.step()]))
    assert [verdict["window"] - FIRST for verdict in expected] == [0, 1, 2, 3]
    assert report["windows"] == expected[:2] and second["windows"] == expected
    assert second["new"] == [FIRST + 2, FIRST + 3] and not report["incidents"]
    assert second["incidents"][0]["opened"] == FIRST + 3
    assert {row["feature"] for row in second["tfdv"][str(FIRST + 3)]} == {"amount", "channel"}


def test_late_labels_are_joined_and_the_metric_equals_scikit_learns(home: Path) -> None:
    rows, folder = generate_day(0), home / "predictions"
    for n in range(ROWS):  # a prediction's id contains its position in the log
        place = (folder / "00000001.open").stat().st_size if n else 0
        append_records(folder, [encode_record(rows, n) + encode_example({"served/id": f"tiny.1.{place:x}.{n:08x}"})])
    log_days(folder, 1, 2)
    names = [decode(data)["served/id"][0] for _, data in read_log(folder)]
    labels = [
        encode_example({"label/id": name, "label/value": int(label), "label/time": 1})
        for name, label in zip(names, rows["label"], strict=False)
    ]
    append_records(home / "labels", labels[: ROWS // 2])
    first, report = monitor_once(home, "one", retraining_loop.FIRST_READING)
    assert report["realised"] == {}  # half of a window's labels is not its metric
    labelled = pl.read_parquet(home / "one" / "report" / drift_monitor.LABELLED)
    assert labelled["window"].unique().to_list() == [FIRST] and labelled["right"].to_list() == list(
        rows["label"][: ROWS // 2]
    )
    append_records(home / "labels", labels[ROWS // 2 :], file=5)
    log_days(folder, 3)
    _, report = monitor_once(home, "two", first | {"labels_to": [2, 0]}, home / "one" / "report")
    expected = average_precision_score(rows["label"], rows["score"])
    assert report["realised"][str(FIRST)]["value"] == pytest.approx(expected, abs=1e-5)


def test_merged_parts_equal_the_whole_in_any_order(drift_profile: ReferenceProfile, tmp_path: Path) -> None:
    log_days(tmp_path, 0)
    rows = [data for _, data in read_log(tmp_path)]
    parts, combine = [profile_records(drift_profile, rows[n : n + 90]) for n in range(0, ROWS, 90)], MergeParts()

    def whole(order: list[WindowPart]) -> WindowPart:
        half = combine.create_accumulator(), combine.create_accumulator()
        first, second = (
            _add_parts(combine, start, group) for start, group in zip(half, (order[:2], order[2:]), strict=True)
        )
        return combine.extract_output(combine.merge_accumulators([None, first, second]))

    expected = profile_records(drift_profile, rows).profile.to_bytes()
    for order in (parts, parts[::-1]):
        assert whole(order).profile.to_bytes() == expected
        assert sorted(whole(order).scores) == sorted(profile_records(drift_profile, rows).scores)


def _add_parts(combine: MergeParts, start: WindowPart | None, parts: list[WindowPart]) -> WindowPart | None:
    for part in parts:
        start = combine.add_input(start, part)
    return start
