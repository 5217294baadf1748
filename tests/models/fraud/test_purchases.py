"""Purchases of a span as one table and as examples: filled columns, accepted types, and equal rows."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from support.purchase_files import SETTINGS, SIX, TIMES, make_table, write_parquet, write_text
from tfx_bsl.coders import example_coder

from models.errors import DataError
from models.fraud.purchases import BATCH, pack, read, read_spans, stable_hash, to_examples, unpack


def read_table(folder: Path, table: pa.Table, **settings: str) -> pa.Table:
    write_parquet(folder / "a.parquet", table)
    return read(folder, {**SETTINGS, **settings})


def test_six_columns_are_enough(tmp_path: Path) -> None:
    table = read_table(tmp_path, make_table())
    assert table.select(SIX).to_pydict() == make_table().to_pydict()
    assert [table[name].to_pylist() for name in ("category", "channel", "device")] == [["none"] * 3] * 3
    assert table["distance_km"].to_pylist() == [0.0] * 3
    # An unlabelled purchase has no label time; the other labels arrive a week later.
    assert table["label_time"].to_pylist() == [TIMES[0] + timedelta(7), TIMES[1] + timedelta(7), None]


def test_column_names_are_mapped(tmp_path: Path) -> None:
    table = make_table(kind=["a", "b", "c"]).rename_columns([*SIX[:1], "ts", "cc_num", *SIX[3:5], "fraud", "kind"])
    mapping = "event_time=ts,customer_id=cc_num,is_fraud=fraud,category=kind"
    result = read_table(tmp_path, table, columns=mapping)
    assert result.select(SIX).to_pydict() == make_table().to_pydict() and result["category"].to_pylist() == [
        "a",
        "b",
        "c",
    ]


def test_missing_categories_stay_missing_and_distances_are_zero(tmp_path: Path) -> None:
    table = read_table(tmp_path, make_table(category=["grocery", None, "fuel"], distance_km=[None, 2.0, 3.0]))
    assert table["category"].to_pylist() == ["grocery", None, "fuel"]
    assert table["distance_km"].to_pylist() == [0.0, 2.0, 3.0]  # as in a request without a distance
    batch = next(to_examples(table))
    assert [len(value) for value in batch["category"].to_pylist()] == [1, 0, 1]
    assert [len(value) for value in batch["distance_km"].to_pylist()] == [1, 1, 1]


def test_label_time_of_the_data_replaces_the_delay_and_is_null_without_a_label(tmp_path: Path) -> None:
    given = pa.array([TIMES[0] + timedelta(1), None, TIMES[2] + timedelta(1)], pa.timestamp("us"))
    table = read_table(tmp_path, make_table(label_time=given))
    assert table["label_time"].to_pylist() == [TIMES[0] + timedelta(1), TIMES[1] + timedelta(7), None]


LABELS = [("true", 1), ("True", 1), ("TRUE", 1), ("false", 0), ("False", 0), ("1", 1), ("0", 0), ("", None)]


def test_csv_with_labels_as_words_or_digits(tmp_path: Path) -> None:
    rows = [f"{i},2026-01-05 12:30:15.25,c,m,{i}.5,{text}" for i, (text, _) in enumerate(LABELS)]
    write_text(tmp_path / "a.csv", "\n".join([",".join(SIX), *rows]) + "\n")
    table = read(tmp_path, SETTINGS)
    assert table["is_fraud"].to_pylist() == [label for _, label in LABELS]
    assert table["event_time"].to_pylist() == [TIMES[1]] * len(LABELS)
    assert table["amount"].to_pylist() == [i + 0.5 for i in range(len(LABELS))]
    assert table["transaction_id"].to_pylist() == [str(i) for i in range(len(LABELS))]  # a number stays text


@pytest.mark.parametrize(
    "text",
    ["2026-01-05T12:30:15.25", "2026-01-05 12:30:15.250000", "2026-01-05T12:30:15.25Z", "2026-01-05 14:30:15.25+02:00"],
)
def test_csv_with_common_time_formats(tmp_path: Path, text: str) -> None:
    write_text(tmp_path / "a.csv", f"{','.join(SIX)}\nt,{text},c,m,1,0\n")
    assert read(tmp_path, SETTINGS)["event_time"].to_pylist() == [TIMES[1]]


def test_times_with_a_zone_are_read_as_utc(tmp_path: Path) -> None:
    zoned = pa.array([time.replace(tzinfo=UTC) for time in TIMES], pa.timestamp("ms", "America/New_York"))
    times = read_table(tmp_path, make_table(event_time=zoned))["event_time"].to_pylist()
    assert times == TIMES  # all are whole milliseconds


def test_other_widths_and_booleans_are_read(tmp_path: Path) -> None:
    table = make_table(amount=pa.array([1, 2, 3], pa.int32()), is_fraud=[True, False, None], customer_id=[7, 8, 9])
    result = read_table(tmp_path, table)
    assert result["amount"].to_pylist() == [1.0, 2.0, 3.0] and result["is_fraud"].to_pylist() == [1, 0, None]
    assert result["customer_id"].to_pylist() == ["7", "8", "9"]


def test_polars_string_types_are_read(tmp_path: Path) -> None:
    large = {
        "is_fraud": pa.array(["true", "False", None], pa.large_string()),
        "customer_id": pa.array(["c1", "c2", "c3"], pa.large_string()),
    }
    times = pa.array([time.isoformat() for time in TIMES], pa.large_string())
    result = read_table(tmp_path, make_table(**large, event_time=times))
    assert result["is_fraud"].to_pylist() == [1, 0, None] and result["event_time"].to_pylist() == TIMES
    assert result["customer_id"].to_pylist() == ["c1", "c2", "c3"]


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", make_table())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a\.parquet cannot be read .*leave its span out") as caught:
        read(tmp_path, SETTINGS)
    assert "\n" not in str(caught.value)


def test_a_purchase_of_two_spans_is_read_once(tmp_path: Path) -> None:
    first, second = tmp_path / "span-000", tmp_path / "span-001"
    write_parquet(first / "a.parquet", pa.concat_tables([make_table(), make_table()]))
    write_parquet(second / "a.parquet", make_table(transaction_id=["t1", "u2", "u3"]))
    assert [table["transaction_id"].to_pylist() for table in read_spans([first, second], SETTINGS)] == [
        ["t1", "t2", "t3"],
        ["u2", "u3"],
    ]


def test_examples_equal_those_built_one_by_one(tmp_path: Path) -> None:
    past = {"past_amount": [[0.0, 1.25], [2.0, 3.0], [0.0, 0.0]], "past_merchant": [["", "m9"], ["m1", "m2"], ["", ""]]}
    table = read_table(tmp_path, make_table(category=["fuel", None, "é"]))
    table = table.append_column("past_amount", pa.array(past["past_amount"], pa.list_(pa.float32())))
    table = table.append_column("past_merchant", pa.array(past["past_merchant"], pa.list_(pa.string())))
    table = table.append_column("past_length", pa.array([1, 2, 0]))
    (batch,) = to_examples(table)
    encoded = [tf.train.Example.FromString(data) for data in example_coder.RecordBatchToExamplesEncoder().encode(batch)]
    for row, example in enumerate(encoded):
        expected = tf.train.Example()
        feature = expected.features.feature
        for name in ("transaction_id", "customer_id", "merchant_id", "category", "channel", "device"):
            text = table[name][row].as_py()
            feature[name].bytes_list.value.extend([] if text is None else [text.encode()])
        seconds = int((TIMES[row] - datetime(1970, 1, 1)).total_seconds())
        feature["event_time"].int64_list.value.append(seconds)
        label = table["is_fraud"][row].as_py()
        feature["is_fraud"].int64_list.value.extend([] if label is None else [label])
        for name in ("amount", "distance_km"):
            feature[name].float_list.value.append(table[name][row].as_py())
        feature["past_amount"].float_list.value.extend(past["past_amount"][row])
        feature["past_merchant"].bytes_list.value.extend(text.encode() for text in past["past_merchant"][row])
        assert _non_empty_features(example) == _non_empty_features(expected)
        assert "label_time" not in example.features.feature and "past_length" not in example.features.feature


def _non_empty_features(example: tf.train.Example) -> dict[str, list]:
    """Return values by name; parsers do not distinguish an empty feature from an absent one."""
    kinds = {name: feature.WhichOneof("kind") for name, feature in example.features.feature.items()}
    values = {name: list(getattr(example.features.feature[name], kind).value) for name, kind in kinds.items() if kind}
    return {name: (kinds[name], value) for name, value in values.items() if value}


def test_large_tables_are_batched_without_losing_rows() -> None:
    rows = 2 * BATCH + 5
    table = pa.table({"transaction_id": [str(i) for i in range(rows)], "amount": np.arange(rows, dtype=float)})
    batches = list(to_examples(table))
    assert max(len(batch) for batch in batches) == BATCH
    assert [v[0] for batch in batches for v in batch["amount"].to_pylist()] == list(range(rows))
    assert list(to_examples(table.slice(0, 0))) == []


def test_pack_and_unpack_preserve_a_table() -> None:
    table = make_table(category=["a", None, "b"])
    assert unpack(pack(table)).equals(table)


def test_hash_of_a_customer_is_stable() -> None:
    # Fixed values: the shard of a customer has to be the same in every process and release.
    assert [stable_hash(text) for text in ("", "c000001")] == [0x1271CF25, 3_801_117_013]
