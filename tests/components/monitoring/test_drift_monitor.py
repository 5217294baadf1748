"""DriftMonitor: the verdicts of the gateway's monitor in any number of passes, and late labels."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn.metrics import average_precision_score
from support.drift_case import CUT, FIRST, ROWS, append, day, pushed, record, served, usual
from tfx.dsl.components.base import base_beam_executor
from tfx.types import Artifact, standard_artifacts

from components.monitoring import drift_monitor
from components.monitoring.drift_monitor import DriftMonitor, DriftReport, Merged
from components.monitoring.log_example_gen import LogExampleGen
from pipeline.local.local_runtime import local_runtime
from pipeline.monitoring import loop
from serving.drift.alarms.judge import Part
from serving.drift.gateway_monitor import Live, counted
from serving.drift.reference.reference_profile import Normal
from serving.gateway.log.log_files import Place, read
from serving.gateway.log.tf_example import decode, entry, example


@pytest.fixture(scope="module")
def profile() -> Normal:
    return usual()


@pytest.fixture
def home(tmp_path: Path, profile: Normal, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a version, and TFDV's statistics of its eval split."""
    monkeypatch.setattr(sys, "argv", ["showcase"])  # TFX reads flags from it
    pushed(tmp_path / "versions", profile)
    (tmp_path / "versions/1/assets.extra/profile.pb").write_bytes(statistics(day(-1)))
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
        **loop.scanned(home / "predictions", CUT, Place(*reading["next"]), reading["last"]),
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
        (directory / "FeatureStats.pb").write_bytes(statistics(day(int(folder.name.rpartition("-")[2]) - FIRST)))
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
    served(home / "predictions", 0, 1, 2)
    first, report = monitor_once(home, "one", loop.BEGIN)
    served(home / "predictions", 3, 4, factor=1.3)
    _, second = monitor_once(home, "two", first, home / "one" / "report")
    live = Live("tiny", home, home / "versions", CUT, [])
    expected = json.loads(json.dumps([asdict(verdict) for verdict in live.step()]))
    assert [verdict["window"] - FIRST for verdict in expected] == [0, 1, 2, 3]
    assert report["windows"] == expected[:2] and second["windows"] == expected
    assert second["new"] == [FIRST + 2, FIRST + 3] and not report["incidents"]
    assert second["incidents"][0]["opened"] == FIRST + 3
    assert {row["feature"] for row in second["tfdv"][str(FIRST + 3)]} == {"amount", "channel"}


def test_late_labels_are_joined_and_the_metric_equals_scikit_learns(home: Path) -> None:
    rows, folder = day(0), home / "predictions"
    for n in range(ROWS):  # a prediction's id contains its position in the log
        place = (folder / "00000001.open").stat().st_size if n else 0
        append(folder, [record(rows, n) + example(entry("served/id", f"tiny.1.{place:x}.{n:08x}"))])
    served(folder, 1, 2)
    names = [decode(data)["served/id"][0] for _, data in read(folder)]
    labels = [
        example(entry("label/id", name), entry("label/value", int(label)), entry("label/time", 1))
        for name, label in zip(names, rows["label"], strict=False)
    ]
    append(home / "labels", labels[: ROWS // 2])
    first, report = monitor_once(home, "one", loop.BEGIN)
    assert report["realised"] == {}  # half of a window's labels is not its metric
    labelled = pl.read_parquet(home / "one" / "report" / drift_monitor.LABELLED)
    assert labelled["window"].unique().to_list() == [FIRST] and labelled["right"].to_list() == list(
        rows["label"][: ROWS // 2]
    )
    append(home / "labels", labels[ROWS // 2 :], file=5)
    served(folder, 3)
    _, report = monitor_once(home, "two", first | {"labels_to": [2, 0]}, home / "one" / "report")
    expected = average_precision_score(rows["label"], rows["score"])
    assert report["realised"][str(FIRST)]["value"] == pytest.approx(expected, abs=1e-5)


def test_merged_parts_equal_the_whole_in_any_order(profile: Normal, tmp_path: Path) -> None:
    served(tmp_path, 0)
    rows = [data for _, data in read(tmp_path)]
    parts, combine = [counted(profile, rows[n : n + 90]) for n in range(0, ROWS, 90)], Merged()

    def whole(order: list[Part]) -> Part:
        half = combine.create_accumulator(), combine.create_accumulator()
        first, second = (
            _add_parts(combine, start, group) for start, group in zip(half, (order[:2], order[2:]), strict=True)
        )
        return combine.extract_output(combine.merge_accumulators([None, first, second]))

    expected = counted(profile, rows).profile.to_bytes()
    for order in (parts, parts[::-1]):
        assert whole(order).profile.to_bytes() == expected
        assert sorted(whole(order).scores) == sorted(counted(profile, rows).scores)


def _add_parts(combine: Merged, start: Part | None, parts: list[Part]) -> Part | None:
    for part in parts:
        start = combine.add_input(start, part)
    return start
