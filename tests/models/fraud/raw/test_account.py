"""The account of a window: every file, row and column is used, or counted and named, or refused with place and remedy."""

import base64
import gzip
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.purchase_files import (
    ROWS,
    SETTINGS,
    SIX,
    TIMES,
    account_of,
    change_row,
    make_lines,
    make_table,
    write_parquet,
    write_text,
)

from models.fraud.purchases import read
from models.fraud.raw.account import COPIES, account_for
from models.fraud.raw.file_reader import ReadOptions
from models.fraud.raw.split_counts import NEVER

DAY = 20_458  # 2026-01-05


def other(prefix: str, **changes: Any) -> pa.Table:
    return make_table(transaction_id=[f"{prefix}{number}" for number in range(3)], **changes)


def refusals(folder: Path, **settings: Any) -> str:
    return "\n".join(account_of(folder, **settings).refused)


def test_files_of_all_formats_are_used_and_the_others_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", make_table())
    write_parquet(tmp_path / "deep" / "b.PQ", other("u"))
    write_text(tmp_path / "c.csv.gz", gzip.compress(make_lines().replace("\nt", "\nv").encode()))
    write_text(tmp_path / "notes.txt", "x")
    write_text(tmp_path / "_SUCCESS", "")
    write_text(tmp_path / "part-1.csv", "")
    write_parquet(tmp_path / "part-2.parquet", make_table().slice(0, 0))
    report = account_of(tmp_path).to_report({})
    assert (report.files, report.rows, report.files_given, report.rows_given) == (3, 9, 7, 9)
    assert report.refused == () and report.period == ("2026-01-05", "2026-01-05")
    assert report.skipped == {
        "hidden": ["_SUCCESS"],
        ".txt not supported": ["notes.txt"],
        "without rows": ["part-1.csv", "part-2.parquet"],
    }
    assert len(read(tmp_path, SETTINGS)) == 9


def test_paths_of_skipped_files_name_their_span(tmp_path: Path) -> None:
    for number in range(2):
        write_parquet(tmp_path / f"span-{number:03d}" / "a.parquet", other(f"s{number}"))
    write_text(tmp_path / "span-001" / "x.json", "{}")
    spans = {number: tmp_path / f"span-{number:03d}" for number in range(2)}
    account = account_for(spans, ReadOptions.of(SETTINGS))
    assert account.skipped == {".json not supported": ["span-001/x.json"]} and account.period == (DAY, DAY)


def test_unused_and_absent_columns_are_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", make_table(note=["x"] * 3, channel=["chip"] * 3))
    write_parquet(tmp_path / "b.parquet", other("u", __index_level_0__=[1, 2, 3]))
    report = account_of(tmp_path).to_report({})
    assert report.unused == ["__index_level_0__", "note"]
    assert report.defaults == {
        "label_time": "label_delay_days after the purchase",
        "category": "'none'",
        "channel": "'none'",
        "device": "'none'",
        "distance_km": "0.0",
    }
    assert report.absent == {"label_time": 2, "category": 2, "channel": 1, "device": 2, "distance_km": 2}
    text = "\n".join(report.describe())
    assert "column channel is absent from 1 of 2 files; 'none' stands in for it" in text
    assert "column device is absent; 'none' stands in for it" in text


def test_conversions_are_counted(tmp_path: Path) -> None:
    text = make_lines(";", rows=[[*row[:4], row[4].replace(".", ","), row[5]] for row in ROWS])
    write_text(tmp_path / "a.csv", text.replace("c1", " c1 ").encode("utf-16"))
    assert account_of(tmp_path).converted == {
        "semicolon-separated files": 1,
        "UTF-16 files with a byte order mark": 1,
        "decimal commas in amount": 2,
        "blanks or float notation in customer_id": 2,
    }
    assert read(tmp_path, SETTINGS).select(SIX).to_pydict() == make_table().to_pydict()


def test_labels_are_counted_by_day_and_the_day_on_which_they_are_known(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", make_table())
    assert account_of(tmp_path).labels == {(DAY, 0, DAY + 7): 1, (DAY, 1, DAY + 8): 1, (DAY, -1, NEVER): 1}


@pytest.mark.parametrize("drop", [False, True])
def test_a_copy_of_an_outlier_counts_once(tmp_path: Path, drop: bool) -> None:
    for day in range(9):
        write_parquet(tmp_path / f"{day}.parquet", other(f"d{day}", event_time=[at + timedelta(day) for at in TIMES]))
    far = other("x", event_time=[at + timedelta(9000) for at in TIMES]).slice(0, 1)
    write_parquet(tmp_path / "far.parquet", pa.concat_tables([far, far]))
    account = account_for({0: tmp_path}, ReadOptions.of(SETTINGS), drop)
    report = account.to_report({})
    assert report.rows_given == 29 and len(report.refused) == (0 if drop else 1)
    assert report.dropped == ({COPIES: 1, "outside the period": 1} if drop else {COPIES: 1})
    assert report.period == ("2026-01-05", "2026-01-13")


def test_named_labels_are_read(tmp_path: Path) -> None:
    text = make_lines().replace(",0\n", ",no\n").replace(",1\n", ",YES\n")
    write_text(tmp_path / "a.csv", text)
    words = {"positive_label": "yes", "negative_label": "no"}
    assert not refusals(tmp_path, **words)
    assert read(tmp_path, {**SETTINGS, **words})["is_fraud"].to_pylist() == [0, 1, None]
    assert "--set positive_label=yes --set negative_label=no" in refusals(tmp_path)


@pytest.mark.parametrize("words", [("yes", ""), ("", "no"), ("Yes", "yES")])
def test_label_words_come_in_pairs(words: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="two different values, or neither"):
        ReadOptions.of({**SETTINGS, "positive_label": words[0], "negative_label": words[1]})


def test_hive_partitions_give_columns_that_files_lack(tmp_path: Path) -> None:
    for channel in ("chip", "online"):
        write_parquet(tmp_path / f"channel={channel}" / "day=5" / "x.parquet", other(channel))
    table = read(tmp_path, SETTINGS)
    assert sorted(table["channel"].to_pylist()) == ["chip"] * 3 + ["online"] * 3
    account = account_of(tmp_path)
    assert account.unused == {"day"} and account.absent["channel"] == 0 and not account.refused


def test_copies_of_rows_count_once(tmp_path: Path) -> None:
    write_parquet(tmp_path / "span-000" / "a.parquet", pa.concat_tables([make_table(), make_table().slice(0, 1)]))
    write_text(tmp_path / "span-001" / "b.csv", make_lines(rows=[*ROWS[:1], ["u", *ROWS[0][1:]]]))
    spans = {number: tmp_path / f"span-{number:03d}" for number in range(2)}
    account = account_for(spans, ReadOptions.of(SETTINGS))
    report = account.to_report({})
    assert report.dropped == {"repeated exactly": 2} and (report.rows, report.rows_given) == (4, 6)
    assert not report.refused
    assert account.labels == {(DAY, 0, DAY + 7): 2, (DAY, 1, DAY + 8): 1, (DAY, -1, NEVER): 1}


def test_an_id_of_two_purchases_is_refused_with_both_places(tmp_path: Path) -> None:
    write_text(tmp_path / "a.csv", make_lines())
    write_parquet(tmp_path / "b.parquet", other("t"))
    assert refusals(tmp_path) == (
        f"{tmp_path}/b.parquet, row 2, has the transaction_id 't1' of another purchase: {tmp_path}/a.csv, "
        "row 1 below the header (1 more such rows); keep one of the rows or correct the ids."
    )


def test_a_file_whose_purchases_are_in_another_is_refused(tmp_path: Path) -> None:
    write_text(tmp_path / "a.csv", make_lines())
    write_parquet(tmp_path / "b.parquet", make_table())
    report = account_of(tmp_path).to_report({})
    assert report.refused == (
        f"All purchases of {tmp_path}/b.parquet are also in {tmp_path}/a.csv; remove one of the files.",
    )
    assert (report.files, report.files_refused, report.rows, report.rows_refused) == (1, 1, 3, 3)


def test_a_table_in_two_formats_is_refused(tmp_path: Path) -> None:
    write_text(tmp_path / "a.csv", make_lines())
    write_parquet(tmp_path / "a.parquet", other("u"))
    assert "a.csv and a.parquet have the same name in two formats" in refusals(tmp_path)


def test_faults_of_several_files_and_columns_are_collected(tmp_path: Path) -> None:
    write_text(tmp_path / "a.csv", change_row(2, amount="+nan", is_fraud="2"))
    write_text(tmp_path / "b.parquet", "x")
    write_parquet(tmp_path / "c.parquet", make_table().drop_columns(["amount"]))
    write_parquet(tmp_path / "d.parquet", other("u"))
    report = account_of(tmp_path).to_report({})
    assert [message.split(";")[0] for message in report.refused] == [
        f"{tmp_path}/a.csv, row 2 below the header, column 'amount': '+nan' is not a number such as 1234.56",
        f"{tmp_path}/a.csv, row 2 below the header, column 'is_fraud': '2' is not a label, the column has '0', '2'",
        report.refused[2].split(";")[0],
        f"{tmp_path}/c.parquet: it has no column 'amount', but transaction_id, event_time, customer_id, merchant_id, is_fraud",
    ]
    assert report.refused[2].startswith(f"{tmp_path}/b.parquet cannot be read (")
    assert (report.files, report.files_refused, report.rows, report.rows_refused) == (1, 3, 3, 3)
    assert report.files_given == 4 and report.rows_given == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"amount": [1.0, float("nan"), 2.0]}, "a.parquet, row 2, column 'amount': a value is missing"),
        ({"amount": [1.0, None, 2.0]}, "a.parquet, row 2, column 'amount': a value is missing"),
        ({"amount": [1.0, -2.0, 2.0]}, "row 2, column 'amount': -2.0 is not between 0 and 1,000,000"),
        ({"customer_id": ["c", "c", None]}, "row 3, column 'customer_id': the id is missing"),
        ({"merchant_id": ["m", " ", "m"]}, "row 2, column 'merchant_id': the id is empty"),
        ({"transaction_id": [1.0, 2.5, 3.0]}, "row 2, column 'transaction_id': 2.5 is not a whole number"),
        ({"customer_id": ["c", "x" * 129, "c"]}, "row 2, column 'customer_id': the id has 129 characters"),
        ({"channel": ["c", "x" * 65, "c"]}, "row 2, column 'channel': the text has 65 characters"),
        ({"distance_km": [0.0, 1.0, 1e9]}, "row 3, column 'distance_km': 1000000000.0 is not between 0 and 25,000"),
        ({"is_fraud": [0, 1, 2]}, "row 3, column 'is_fraud': '2' is not a label"),
        ({"is_fraud": [0, -1, 1]}, "row 2, column 'is_fraud': '-1' is not a label"),
        ({"event_time": pa.array([TIMES[0], None, TIMES[2]])}, "row 2, column 'event_time': the time is missing"),
        ({"event_time": ["2026-01-05", "soon", "2026-01-05"]}, "row 2, column 'event_time': 'soon' is not a time"),
    ],
)
def test_values_that_would_change_the_meaning_are_refused_with_their_row(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_parquet(tmp_path / "a.parquet", make_table(**changes))
    assert message in refusals(tmp_path)


def test_a_zone_that_is_no_text_is_refused_with_its_column(tmp_path: Path) -> None:
    zoned = pa.array(TIMES, pa.timestamp("us", "Zoné"))
    path = write_parquet(tmp_path / "a.parquet", make_table(event_time=zoned))
    schema = pq.read_metadata(path).metadata[b"ARROW:schema"]
    damaged = base64.b64encode(base64.b64decode(schema).replace("é".encode(), b"\xff\xff"))
    path.write_bytes(path.read_bytes().replace(schema, damaged))
    assert f"{path}, column 'event_time', cannot be read ('utf-8' codec" in refusals(tmp_path)


@pytest.mark.parametrize("name", [None, "notes.txt", "a.csv"])
def test_a_span_without_purchases_is_refused(tmp_path: Path, name: str | None) -> None:
    if name:
        write_text(tmp_path / name, ",".join(SIX) + "\n")
    assert f"{tmp_path} has no purchases in .csv, .tsv or .parquet files" in refusals(tmp_path)


def test_whole_floats_are_the_ids_of_requests(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", make_table(customer_id=[4e15, 7.0, 7.0]))
    assert read(tmp_path, SETTINGS)["customer_id"].to_pylist() == ["4000000000000000", "7", "7"]
