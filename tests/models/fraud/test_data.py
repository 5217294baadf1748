"""Purchases to examples: splits with label delays, equal results with shards, and only labels that had arrived."""

import functools
import tempfile
import uuid
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from models import spans as span_folders
from models.errors import DataError
from models.fraud import data, purchases
from models.fraud.history.point_in_time import MerchantDays, customer_features, merchant_features
from pipeline.local.local_runtime import local_runtime

DELAY, WARMUP, VALID, EVAL = 2, 3, 2, 3
LEAST = WARMUP + 1 + VALID + DELAY + EVAL + DELAY
DAYS = 20
SPLITS = ("train", "valid", "eval")
START = datetime(2026, 1, 5)
FIRST = (START - datetime(1970, 1, 1)).days
SETTINGS = {
    "columns": "",
    "label_delay_days": DELAY,
    "warmup_days": WARMUP,
    "valid_days": VALID,
    "eval_days": EVAL,
    "outliers": "refuse",
}
WHOLE = {**SETTINGS, "first_day": FIRST, "last_day": FIRST + DAYS - 1}


def write_spans(folder: Path, seed: int = 0, customers: int = 12) -> dict[int, Path]:
    """Write spans of random purchases: some labels late, some missing, a column with nulls."""
    rng = np.random.default_rng(seed)
    for day in range(DAYS):
        rows = 30
        times = [START + timedelta(days=day, seconds=float(s)) for s in np.sort(rng.integers(0, 86_400, rows))]
        never, late = rng.random(rows) < 0.1, rng.integers(1, 24 * 8, rows)
        table = pa.table(
            {
                "transaction_id": [f"t{day:02d}-{row:02d}" for row in range(rows)],
                "event_time": pa.array(times, pa.timestamp("us")),
                "customer_id": [f"c{c}" for c in rng.integers(0, customers, rows)],
                "merchant_id": [f"m{m}" for m in rng.integers(0, 5, rows)],
                "amount": np.round(rng.lognormal(3, 1, rows), 2),
                "is_fraud": pa.array((rng.random(rows) < 0.2).astype(np.int8), mask=never),
                "label_time": pa.array(
                    [t + timedelta(hours=int(h)) for t, h in zip(times, late, strict=True)],
                    pa.timestamp("us"),
                    mask=never,
                ),
                "category": pa.array([None if rng.random() < 0.1 else "fuel" for _ in range(rows)], pa.string()),
            }
        )
        span = folder / f"span-{day:03d}"
        span.mkdir(parents=True)
        pq.write_table(table, span / "a.parquet")
    return span_folders.select_window(folder, -1, -1)


def run_beam(spans: dict[int, Path], settings: dict) -> dict[str, list[dict]]:
    """Return the examples of each split as rows, sorted by id; Beam may run in other processes, so they pass through files."""
    with tempfile.TemporaryDirectory() as folder:
        with beam.Pipeline(options=PipelineOptions(list(local_runtime(Path("/nowhere")).beam_args))) as pipeline:
            _ = data.examples(pipeline, spans, settings) | beam.Map(_write_batch, folder)
        parts = {split: sorted(Path(folder).glob(f"{split}-*")) for split in SPLITS}
        tables = {split: [purchases.unpack(path.read_bytes()) for path in paths] for split, paths in parts.items()}
    assert all(0 < len(table) <= purchases.BATCH for split in SPLITS for table in tables[split])
    return {split: _sort_by_id([row for table in tables[split] for row in table.to_pylist()]) for split in SPLITS}


def _write_batch(element: tuple[str, pa.RecordBatch], folder: str) -> None:
    split, batch = element
    Path(folder, f"{split}-{uuid.uuid4()}").write_bytes(purchases.pack(pa.Table.from_batches([batch])))


def _sort_by_id(rows: list[dict]) -> list[dict]:
    return sorted(rows, key=lambda row: row["transaction_id"])


def oracle(spans: dict[int, Path], settings: dict) -> dict[str, list[dict]]:
    """Compute the same in one table, without shards, merges or Beam, row by row."""
    table = pa.concat_tables([purchases.read(path, settings) for path in spans.values()])
    table = merchant_features(customer_features(table), MerchantDays.of(table), DELAY)
    split_days = data.splits(settings)
    known_by = {split: split_days["eval"].start for split in ("train", "valid")} | {"eval": settings["last_day"] + 1}
    rows = [row for batch in purchases.to_examples(table) for row in batch.to_pylist()]
    by_split: dict[str, list[dict]] = {split: [] for split in SPLITS}
    for row, raw in zip(rows, table.select(["event_time", "is_fraud", "label_time"]).to_pylist(), strict=True):
        day = (raw["event_time"] - datetime(1970, 1, 1)).days
        for split, days in split_days.items():
            end = START + timedelta(days=known_by[split] - FIRST)
            if day in days and raw["is_fraud"] is not None and raw["label_time"] <= end:
                by_split[split].append(row)
    return {split: _sort_by_id(rows) for split, rows in by_split.items()}


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return write_spans(tmp_path_factory.mktemp("purchases"))


@pytest.fixture(scope="module")
def examples(spans: dict[int, Path]) -> dict[str, list[dict]]:
    return run_beam(spans, WHOLE)


def test_splits_end_with_a_label_delay_after_valid_and_after_eval() -> None:
    split_days = data.splits(WHOLE)
    # 20 days: 3 warm-up, 8 train, 2 valid, 2 label delay, 3 eval, 2 label delay.
    assert {name: [day - FIRST for day in days] for name, days in split_days.items()} == {
        "train": list(range(3, 11)),
        "valid": [11, 12],
        "eval": [15, 16, 17],
    }


@pytest.mark.parametrize(("delay", "warmup", "valid", "held"), [(0, 0, 1, 1), (7, 30, 5, 7), (1, 2, 3, 4)])
def test_splits_are_adjacent_for_every_length_of_window(delay: int, warmup: int, valid: int, held: int) -> None:
    settings = {"label_delay_days": delay, "warmup_days": warmup, "valid_days": valid, "eval_days": held}
    for days in range(warmup + 1 + valid + held + 2 * delay, 100):
        split_days = data.splits({**settings, "first_day": 0, "last_day": days - 1})
        assert split_days["train"].start == warmup and len(split_days["train"]) >= 1
        assert len(split_days["valid"]) == valid and len(split_days["eval"]) == held
        assert split_days["valid"].start == split_days["train"].stop
        assert split_days["valid"].stop + delay == split_days["eval"].start
        assert split_days["eval"].stop + delay == days


def test_too_short_a_window_names_the_sufficient_number_of_days() -> None:
    with pytest.raises(DataError, match=rf"has {LEAST - 1} days, .* need at least {LEAST}; .*warmup_days"):
        data.splits({**WHOLE, "last_day": FIRST + LEAST - 2})
    assert len(data.splits({**WHOLE, "last_day": FIRST + LEAST - 1})["train"]) == 1


def test_check_returns_the_days_of_the_window_and_refuses_too_few(spans: dict[int, Path]) -> None:
    assert data.check(spans, SETTINGS).settings == {"first_day": FIRST, "last_day": FIRST + DAYS - 1}
    last = {number: spans[number] for number in range(4, DAYS)}
    assert data.check(last, SETTINGS).settings == {"first_day": FIRST + 4, "last_day": FIRST + DAYS - 1}
    few = {number: spans[number] for number in range(LEAST - 1)}
    assert f"at least {LEAST}" in data.check(few, SETTINGS).refused[0]


def test_sharded_examples_equal_those_of_one_table(spans: dict[int, Path], examples: dict[str, list[dict]]) -> None:
    expected = oracle(spans, WHOLE)
    assert min(len(rows) for rows in expected.values()) > 20
    assert examples == expected


def test_a_window_uses_no_rows_outside_it(spans: dict[int, Path]) -> None:
    part = {number: spans[number] for number in range(4, 4 + LEAST + 1)}
    settings = {**WHOLE, **data.check(part, SETTINGS).settings}
    assert run_beam(part, settings) == oracle(part, settings)


def test_shards_without_rows_are_allowed(tmp_path: Path) -> None:
    spans = write_spans(tmp_path, seed=1, customers=1)
    examples = run_beam(spans, WHOLE)
    assert examples == oracle(spans, WHOLE) and len(examples["train"]) > 100


def test_every_example_is_once_in_its_split_with_one_label(examples: dict[str, list[dict]]) -> None:
    ids = Counter(row["transaction_id"][0] for rows in examples.values() for row in rows)
    assert set(ids.values()) == {1}
    for split, days in data.splits(WHOLE).items():
        assert {row["event_time"][0] // 86_400 for row in examples[split]} == set(days)
    assert {len(row["is_fraud"]) for rows in examples.values() for row in rows} == {1}


def test_eval_has_all_labels_that_arrived_before_the_windows_end_and_no_others(
    spans: dict[int, Path], examples: dict[str, list[dict]]
) -> None:
    raw = {
        row["transaction_id"]: row for path in spans.values() for row in pq.read_table(path / "a.parquet").to_pylist()
    }
    end = START + timedelta(days=DAYS)
    eval_days = data.splits(WHOLE)["eval"]
    in_eval = {name for name, row in raw.items() if (row["event_time"] - datetime(1970, 1, 1)).days in eval_days}
    never = {name for name in in_eval if raw[name]["label_time"] is None}
    late = {name for name in in_eval - never if raw[name]["label_time"] > end}
    assert never and late
    assert {row["transaction_id"][0].decode() for row in examples["eval"]} == in_eval - never - late


def test_train_has_no_labels_that_arrived_after_eval_began(
    spans: dict[int, Path], examples: dict[str, list[dict]]
) -> None:
    split_days = data.splits(WHOLE)
    began = START + timedelta(days=split_days["eval"].start - FIRST)
    raw = [row for path in spans.values() for row in pq.read_table(path / "a.parquet").to_pylist()]
    in_train = [row for row in raw if (row["event_time"] - datetime(1970, 1, 1)).days in split_days["train"]]
    late = {row["transaction_id"] for row in in_train if row["label_time"] and row["label_time"] > began}
    trained = {row["transaction_id"][0].decode() for row in examples["train"]}
    assert late and not late & trained


def test_without_label_times_labels_arrive_after_the_delay(tmp_path: Path) -> None:
    for span in write_spans(tmp_path).values():
        pq.write_table(pq.read_table(span / "a.parquet").drop_columns(["label_time"]), span / "a.parquet")
    spans = span_folders.select_window(tmp_path, -1, -1)
    labelled = [row for path in spans.values() for row in pq.read_table(path / "a.parquet").to_pylist()]
    rows = run_beam(spans, WHOLE)["eval"]
    days = data.splits(WHOLE)["eval"]
    expected = [
        r for r in labelled if (r["event_time"] - datetime(1970, 1, 1)).days in days and r["is_fraud"] is not None
    ]
    assert len(rows) == len(expected) > 0


def test_generated_data_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**SETTINGS, "rows": 200, "days": LEAST, "data_seed": 5}
    first = data.prepare(None, tmp_path, settings)
    assert sum(pq.read_metadata(path).num_rows for path in first.rglob("*.parquet")) == 200
    monkeypatch.setattr(
        "models.fraud.generator.span_generator.generate", functools.partial(pytest.fail, "generated twice")
    )
    assert data.prepare(None, tmp_path, settings) == first
    assert data.prepare(str(tmp_path), tmp_path, settings) == tmp_path


def test_nothing_is_generated_that_the_splits_cannot_use(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"at least {LEAST}"):
        data.prepare(None, tmp_path, {**SETTINGS, "rows": 200, "days": LEAST - 1, "data_seed": 5})
    assert not list(tmp_path.iterdir())


def test_other_settings_generate_other_data(tmp_path: Path) -> None:
    settings = {**SETTINGS, "rows": 30, "days": LEAST, "data_seed": 5}
    folders = {
        data.prepare(None, tmp_path, {**settings, **change})
        for change in ({}, {"rows": 31}, {"days": LEAST + 1}, {"data_seed": 6})
    }
    assert len(folders) == 4


def test_purchases_of_two_spans_and_files_count_once(tmp_path: Path) -> None:
    spans = write_spans(tmp_path / "repeated")
    whole = write_spans(tmp_path / "whole")
    for number in (9, 16):
        day = pq.read_table(spans[number] / "a.parquet")
        pq.write_table(day.slice(3, 5), spans[number + 1] / "late.parquet")
        pq.write_table(pa.concat_tables([day, day.slice(0, 7)]), spans[number] / "a.parquet")
        late = pq.read_table(spans[number + 1] / "late.parquet")
        own = pq.read_table(spans[number + 1] / "a.parquet")
        pq.write_table(pa.concat_tables([own, late]), spans[number + 1] / "a.parquet")
        (spans[number + 1] / "late.parquet").unlink()
    report = data.check(spans, SETTINGS)
    assert report.dropped == {"repeated exactly": 24} and not report.refused
    assert run_beam(spans, WHOLE) == oracle(whole, WHOLE)
