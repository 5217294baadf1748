"""The check of fraud data: periods, outliers, times, labels and optional columns, before anything runs."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import apache_beam as beam
import orjson
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from support.in_process import run_in_process
from support.purchase_days import CHANGES, DAYS, FIRST_DAY, ROWS, START, change_column, settings, write_days

from models.fraud import data, purchases
from models.fraud.online_requests import Purchases
from pipeline.local.local_runtime import local_runtime

FAR = datetime(2206, 1, 1)


def move_first(values: list[datetime], to: datetime = FAR) -> pa.Array:
    return pa.array([to, *values[1:]], pa.timestamp("us"))


def run_check(folder: Path, home: Path, *words: str) -> tuple[int, str]:
    changes = [word for name, value in CHANGES.items() for word in ("--set", f"{name}={value}")]
    result = run_in_process("check", "fraud", "--data", folder, "--home", home, *changes, *words)
    return result.returncode, result.stdout


def test_report_gives_every_period_with_rows_and_labels(tmp_path: Path) -> None:
    write_days(tmp_path / "data")
    code, text = run_check(tmp_path / "data", tmp_path)
    assert code == 0 and text.splitlines()[:7] == [
        "400 purchases in 20 files, 2026-01-05 to 2026-01-24 (20 days)",
        "warm-up: 60, 2026-01-05 to 2026-01-07 (3 days)",
        "train: 160, fraud: 16, honest: 144, 2026-01-08 to 2026-01-15 (8 days)",
        "valid: 40, fraud: 4, honest: 36, 2026-01-16 to 2026-01-17 (2 days)",
        "label delay before eval: 40, 2026-01-18 to 2026-01-19 (2 days)",
        "eval: 60, fraud: 6, honest: 54, 2026-01-20 to 2026-01-22 (3 days)",
        "label delay after eval: 40, 2026-01-23 to 2026-01-24 (2 days)",
    ]


def test_counts_of_the_report_are_those_of_the_examples(tmp_path: Path) -> None:
    spans = write_days(tmp_path)
    late = [START + timedelta(days=30)] * ROWS
    for day in (5, 14, 17):
        change_column(spans[day], "label_time", lambda values: pa.array([None, *late[1:]], pa.timestamp("us")))
    change_column(spans[9], "is_fraud", lambda values: [None, *values[1:]])
    change_column(spans[19], "event_time", move_first)
    configured = settings(outliers="drop")
    report = data.check(spans, configured)
    assert report.rows == DAYS * ROWS - 1 and report.dropped == {"outside the period": 1}
    counts = {"train": 0, "valid": 0, "eval": 0}
    with beam.Pipeline(options=PipelineOptions(list(local_runtime(tmp_path).beam_args))) as pipeline:
        examples = data.examples(pipeline, spans, {**configured, **report.settings})
        _ = (
            examples
            | beam.Map(lambda element: f"{element[0]} {len(element[1])}")
            | beam.io.WriteToText(str(tmp_path / "sizes"), shard_name_template="")
        )
    for line in (tmp_path / "sizes").read_text().splitlines():
        name, rows = line.split()
        counts[name] = counts.get(name, 0) + int(rows)
    assert report.converted == {"missing label_time read as label_delay_days after the purchase": 3}
    sizes = {name: report.splits[name].rows for name in ("train", "valid", "eval")}
    assert sizes == {name: counts[name] for name in sizes} and (sizes["train"], sizes["eval"]) == (
        160 - 19 - 1,
        60 - 19,
    )
    assert counts["normal"] == 7 * ROWS - 1


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (FAR, "1 purchase lies 65,720 days after the others of 2026-01-05 to 2026-01-24: "),
        (datetime(1970, 1, 1), "1 purchase lies 20,458 days before the others of 2026-01-05 to 2026-01-24: "),
        (START + timedelta(days=30), "1 purchase lies 11 days after the others"),
    ],
)
def test_a_row_far_from_all_others_is_refused_with_its_place(tmp_path: Path, time: datetime, text: str) -> None:
    spans = write_days(tmp_path / "data")
    change_column(spans[7], "event_time", lambda values: move_first(values, time))
    code, output = run_check(tmp_path / "data", tmp_path)
    assert code == 1 and f"refused: {text}" in output
    assert f"span-007/a.parquet, row 1 ({time}); correct event_time there" in output and "outliers=drop" in output
    assert "eval: 60, fraud: 6, honest: 54, 2026-01-20 to 2026-01-22" in output


def test_dropped_outliers_are_counted_and_change_no_split(tmp_path: Path) -> None:
    spans = write_days(tmp_path / "data")
    for day, time in ((3, FAR), (18, datetime(1999, 1, 1)), (19, datetime(1999, 1, 2))):
        change_column(spans[day], "event_time", lambda values, time=time: move_first(values, time))
    code, output = run_check(tmp_path / "data", tmp_path, "--set", "outliers=drop")
    assert code == 0 and "dropped 3 purchases: 3 outside the period" in output
    assert "397 purchases in 20 files, 2026-01-05 to 2026-01-24" in output
    assert "eval: 60, fraud: 6, honest: 54, 2026-01-20 to 2026-01-22" in output


def test_an_outlier_does_not_reach_the_online_history(tmp_path: Path) -> None:
    spans = write_days(tmp_path)
    change_column(spans[7], "event_time", move_first)
    configured = settings(outliers="drop")
    configured = {**configured, **data.check(spans, configured).settings}
    online = Purchases()
    assert online.seed(map(str, spans.values()), configured) == DAYS * ROWS - 1
    request = {name: "x" for name in ("transaction_id", "customer_id", "merchant_id")}
    body = orjson.dumps({**request, "amount": 1.0, "event_time": "2206-01-15T00:00:00"})
    with pytest.raises(ValueError, match="in the future"):
        online.row(online.Request.model_validate_json(body))


@pytest.mark.parametrize(
    ("days", "change", "message"),
    [
        (range(15, 18), lambda values: [0] * ROWS, "no fraud in eval: 3 days from 2026-01-20 with 60 labelled"),
        (range(3, 11), lambda values: [1] * ROWS, "no honest purchase in train: 8 days from 2026-01-08"),
        (range(11, 13), lambda values: [None] * ROWS, "valid has fewer than 10 purchases: 2 days from 2026-01-16"),
    ],
)
def test_a_split_without_both_labels_is_refused(tmp_path: Path, days: Sequence[int], change: Any, message: str) -> None:
    spans = write_days(tmp_path / "data")
    for day in days:
        change_column(spans[day], "is_fraud", change)
    code, output = run_check(tmp_path / "data", tmp_path)
    assert code == 1 and f"refused: {message}" in output


@pytest.mark.parametrize(("unit", "factor"), [("seconds", 1), ("milliseconds", 10**3), ("nanoseconds", 10**9)])
def test_numbers_are_times_in_the_unit_that_the_report_names(tmp_path: Path, unit: str, factor: int) -> None:
    spans = write_days(tmp_path / "data")
    for span in spans.values():
        change_column(
            span,
            "event_time",
            lambda values: [int((time - datetime(1970, 1, 1)).total_seconds()) * factor for time in values],
        )
    report = data.check(spans, settings())
    assert report.settings == {"first_day": FIRST_DAY, "last_day": FIRST_DAY + DAYS - 1} and not report.refused
    assert report.converted == {f"event_time read as {unit} since 1970": 400}
    assert purchases.read(spans[0], settings())["event_time"][0].as_py() == START


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("event_time", ["31.12.2026"] * ROWS, "row 1, column 'event_time': '31.12.2026' leaves open which number"),
        ("event_time", [1_767_614_400] * 19 + [1_767_614_400_000], "row 20, column 'event_time': 1767614400000 looks"),
        ("label_time", [START + timedelta(days=9)] + [START] * 19, "row 2, column 'label_time': 2026-01-05 00:00:00"),
    ],
)
def test_a_time_that_cannot_be_right_is_refused_with_its_place(
    tmp_path: Path, name: str, values: list[Any], reason: str
) -> None:
    spans = write_days(tmp_path)
    change_column(spans[4 if name == "event_time" else 0], name, lambda _: values)
    (message,) = data.check(spans, settings()).refused
    assert "a.parquet, " + reason in message
