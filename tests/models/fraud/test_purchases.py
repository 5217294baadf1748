"""Reading purchases: accepted formats, filled columns, and the messages for what is refused."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from tfx_bsl.coders import example_coder

from models.errors import DataError
from models.fraud.purchases import BATCH, check, pack, read, stable_hash, to_examples, unpack

TIMES = [datetime(2026, 1, 5, 0, 0), datetime(2026, 1, 5, 12, 30, 15, 250_000), datetime(2026, 1, 5, 23, 59, 59)]
DAY = (date(2026, 1, 5) - date(1970, 1, 1)).days
SIX = ["transaction_id", "event_time", "customer_id", "merchant_id", "amount", "is_fraud"]


def six(**changes: list) -> pa.Table:
    columns = {
        "transaction_id": ["t1", "t2", "t3"],
        "event_time": pa.array(TIMES, pa.timestamp("us")),
        "customer_id": ["c1", "c2", "c1"],
        "merchant_id": ["m1", "m1", "m2"],
        "amount": [1.5, 20.0, 300.25],
        "is_fraud": pa.array([0, 1, None], pa.int8()),
    }
    return pa.table({**columns, **changes})


def parquet(folder: Path, table: pa.Table, name: str = "a.parquet") -> Path:
    folder.mkdir(exist_ok=True)
    pq.write_table(table, folder / name)
    return folder


def csv(folder: Path, text: str) -> Path:
    (folder / "a.csv").write_text(text)
    return folder


def test_six_columns_are_enough(tmp_path: Path) -> None:
    parquet(tmp_path, six())
    assert check(tmp_path, "") == (DAY, DAY)
    table = read(str(tmp_path), "", 7)
    assert table.select(SIX).to_pydict() == six().to_pydict()
    assert [table[name].to_pylist() for name in ("category", "channel", "device")] == [["none"] * 3] * 3
    assert table["distance_km"].to_pylist() == [0.0] * 3
    # An unlabelled purchase has no label time; the other labels arrive a week later.
    assert table["label_time"].to_pylist() == [TIMES[0] + timedelta(7), TIMES[1] + timedelta(7), None]


def test_column_names_are_mapped(tmp_path: Path) -> None:
    table = six(kind=["a", "b", "c"]).rename_columns([*SIX[:1], "ts", "cc_num", *SIX[3:5], "fraud", "kind"])
    parquet(tmp_path, table)
    mapping = "event_time=ts,customer_id=cc_num,is_fraud=fraud,category=kind"
    assert check(tmp_path, mapping) == (DAY, DAY)
    result = read(str(tmp_path), mapping, 7)
    assert result.select(SIX).to_pydict() == six().to_pydict() and result["category"].to_pylist() == ["a", "b", "c"]


@pytest.mark.parametrize("mapping", ["amont=x", "amount", "=x"])
def test_a_mapping_of_an_unknown_column_is_refused(tmp_path: Path, mapping: str) -> None:
    with pytest.raises(DataError, match="--columns takes OURS=YOURS pairs.*transaction_id"):
        check(parquet(tmp_path, six()), mapping)


def test_nulls_in_an_existing_column_stay_missing(tmp_path: Path) -> None:
    parquet(tmp_path, six(category=["grocery", None, "fuel"], distance_km=[None, 2.0, 3.0], amount=[None, 1.0, 2.0]))
    table = read(str(tmp_path), "", 7)
    assert table["category"].to_pylist() == ["grocery", None, "fuel"]
    assert table["distance_km"].to_pylist() == [None, 2.0, 3.0] and table["amount"].to_pylist() == [None, 1.0, 2.0]
    batch = next(to_examples(table))
    assert [len(value) for value in batch["category"].to_pylist()] == [1, 0, 1]
    assert [len(value) for value in batch["amount"].to_pylist()] == [0, 1, 1]


def test_label_time_of_the_data_replaces_the_delay_and_is_null_without_a_label(tmp_path: Path) -> None:
    given = pa.array([TIMES[0] + timedelta(1), None, TIMES[2] + timedelta(1)], pa.timestamp("us"))
    table = read(str(parquet(tmp_path, six(label_time=given))), "", 7)
    assert table["label_time"].to_pylist() == [TIMES[0] + timedelta(1), TIMES[1] + timedelta(7), None]


LABELS = [("true", 1), ("True", 1), ("TRUE", 1), ("false", 0), ("False", 0), ("1", 1), ("0", 0), ("", None)]


def test_csv_with_labels_as_words_or_digits(tmp_path: Path) -> None:
    rows = [f"{i},2026-01-05 12:30:15.25,c,m,{i}.5,{text}" for i, (text, _) in enumerate(LABELS)]
    csv(tmp_path, "\n".join([",".join(SIX), *rows]) + "\n")
    assert check(tmp_path, "") == (DAY, DAY)
    table = read(str(tmp_path), "", 7)
    assert table["is_fraud"].to_pylist() == [label for _, label in LABELS]
    assert table["event_time"].to_pylist() == [TIMES[1]] * len(LABELS)
    assert table["amount"].to_pylist() == [i + 0.5 for i in range(len(LABELS))]
    assert table["transaction_id"].to_pylist() == [str(i) for i in range(len(LABELS))]  # a number stays text


@pytest.mark.parametrize(
    "text",
    ["2026-01-05T12:30:15.25", "2026-01-05 12:30:15.250000", "2026-01-05T12:30:15.25Z", "2026-01-05 14:30:15.25+02:00"],
)
def test_csv_with_common_time_formats(tmp_path: Path, text: str) -> None:
    csv(tmp_path, f"{','.join(SIX)}\nt,{text},c,m,1,0\n")
    assert check(tmp_path, "") == (DAY, DAY)
    assert read(str(tmp_path), "", 7)["event_time"].to_pylist() == [TIMES[1]]


def test_times_with_a_zone_are_read_as_utc(tmp_path: Path) -> None:
    zoned = pa.array([time.replace(tzinfo=UTC) for time in TIMES], pa.timestamp("ms", "America/New_York"))
    times = read(str(parquet(tmp_path, six(event_time=zoned))), "", 7)["event_time"].to_pylist()
    assert times == TIMES  # all are whole milliseconds


def test_other_widths_and_booleans_are_read(tmp_path: Path) -> None:
    table = six(amount=pa.array([1, 2, 3], pa.int32()), is_fraud=[True, False, None], customer_id=[7, 8, 9])
    result = read(str(parquet(tmp_path, table)), "", 7)
    assert result["amount"].to_pylist() == [1.0, 2.0, 3.0] and result["is_fraud"].to_pylist() == [1, 0, None]
    assert result["customer_id"].to_pylist() == ["7", "8", "9"]


def test_polars_string_types_are_read(tmp_path: Path) -> None:
    large = {name: pa.array(["true", "False", None], pa.large_string()) for name in ("is_fraud", "customer_id")}
    times = pa.array([time.isoformat() for time in TIMES], pa.large_string())
    result = read(str(parquet(tmp_path, six(**large, event_time=times))), "", 7)
    assert result["is_fraud"].to_pylist() == [1, 0, None] and result["event_time"].to_pylist() == TIMES
    assert result["customer_id"].to_pylist() == ["true", "False", None]


def test_all_files_of_a_span_are_read_in_both_formats(tmp_path: Path) -> None:
    parquet(tmp_path, six())
    parquet(tmp_path / "deep", six(transaction_id=["u1", "u2", "u3"]))
    csv(tmp_path, f"{','.join(SIX)}\nv,2026-01-07 00:00:00,c,m,1,0\n")
    (tmp_path / "notes.txt").write_text("not data")
    assert check(tmp_path, "") == (DAY, DAY + 2)
    assert sorted(read(str(tmp_path), "", 7)["transaction_id"].to_pylist()) == ["t1", "t2", "t3", "u1", "u2", "u3", "v"]


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    path = parquet(tmp_path, six()) / "a.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a\.parquet cannot be read .*leave its span out") as caught:
        check(tmp_path, "")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"a\.parquet cannot be read"):
        read(str(tmp_path), "", 7)


@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
def test_an_empty_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=f"{name} cannot be read"):
        check(tmp_path, "")


def test_a_file_without_rows_is_named(tmp_path: Path) -> None:
    for folder in (parquet(tmp_path / "p", six().slice(0, 0)), tmp_path / "c"):
        folder.mkdir(exist_ok=True)
        if folder.name == "c":
            csv(folder, ",".join(SIX) + "\n")
        with pytest.raises(DataError, match="has no rows"):
            check(folder, "")


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path} has no .parquet or .csv file"):
        check(tmp_path, "")


@pytest.mark.parametrize("name", SIX)
def test_a_missing_column_is_named_with_existing_ones_and_the_option(tmp_path: Path, name: str) -> None:
    parquet(tmp_path, six(extra=[1, 2, 3]).drop_columns([name]))
    with pytest.raises(DataError, match=f"has no column '{name}'; it has .*extra.*--columns {name}=YOURS"):
        check(tmp_path, "")
    with pytest.raises(DataError, match=f"has no column 'theirs'; .*--columns {name}=YOURS"):
        check(tmp_path, f"{name}=theirs")


@pytest.mark.parametrize(
    ("name", "values"), [("amount", ["1", "2", "a lot"]), ("is_fraud", ["yes", "no", "no"]), ("is_fraud", [0.5, 1, 0])]
)
def test_an_unreadable_type_names_file_column_and_type(tmp_path: Path, name: str, values: list) -> None:
    with pytest.raises(DataError, match=rf"a\.parquet has a column '{name}' that cannot be read as (double|int8)"):
        read(str(parquet(tmp_path, six(**{name: values}))), "", 7)


def test_check_refuses_unreadable_and_missing_times(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'event_time' that cannot be read as timestamp"):
        check(parquet(tmp_path / "text", six(event_time=["yesterday", "today", "now"])), "")
    for name, times in (("one", [TIMES[0], None, TIMES[2]]), ("all", [None] * 3)):
        with pytest.raises(DataError, match=r"a\.parquet has [13] purchases? without event_time"):
            check(parquet(tmp_path / name, six(event_time=pa.array(times, pa.timestamp("us")))), "")


def test_examples_equal_those_built_one_by_one(tmp_path: Path) -> None:
    past = {"past_amount": [[0.0, 1.25], [2.0, 3.0], [0.0, 0.0]], "past_merchant": [["", "m9"], ["m1", "m2"], ["", ""]]}
    table = read(str(parquet(tmp_path, six(category=["fuel", None, "é"]))), "", 7)
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
    table = six(category=["a", None, "b"])
    assert unpack(pack(table)).equals(table)


def test_hash_of_a_customer_is_stable() -> None:
    # Fixed values: the shard of a customer has to be the same in every process and release.
    assert [stable_hash(text) for text in ("", "c000001")] == [0x1271CF25, 3_801_117_013]
