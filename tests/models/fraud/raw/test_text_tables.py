"""Text tables: encodings, separators, compressions and quotes that are read, and faults named with their row or line."""

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from support.purchase_files import ROWS, SIX, change_row, make_lines, write_text

from models.errors import DataError
from models.fraud.raw.table_files import list_tables
from models.fraud.raw.text_tables import TextTable, open_text_table


def open_table(path: Path) -> TextTable:
    (file,) = list_tables(path.parent).files
    return open_text_table(file, SIX)


def read_rows(path: Path) -> list[list[str]]:
    table = open_table(path).read(SIX)
    return [list(row.values()) for row in table.to_pylist()]


def compress_zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data, asbytes=True)


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("a.csv", bytes),
        ("a.csv.gz", gzip.compress),
        ("a.CSV.GZ", lambda data: gzip.compress(data[:70]) + gzip.compress(data[70:])),
        ("a.csv.zst", compress_zstd),
        ("a.csv.zst", lambda data: compress_zstd(data[:70]) + compress_zstd(data[70:])),
        ("a.csv.bz2", bz2.compress),
    ],
)
def test_compressed_files_are_read(tmp_path: Path, name: str, compress: Callable[[bytes], bytes]) -> None:
    assert read_rows(write_text(tmp_path / name, compress(make_lines().encode()))) == ROWS


@pytest.mark.parametrize(("name", "compress"), [("a.csv.gz", gzip.compress), ("a.csv.zst", compress_zstd)])
def test_a_truncated_compressed_file_is_refused(tmp_path: Path, name: str, compress: Callable[[bytes], bytes]) -> None:
    whole = compress(make_lines(rows=ROWS * 50).encode())
    for size in (10, len(whole) // 2, len(whole) - 1):
        path = write_text(tmp_path / name, whole[:size])
        with pytest.raises((DataError, pa.ArrowException, OSError)):
            read_rows(path)


@pytest.mark.parametrize(
    ("separator", "name", "conversion"),
    [
        (",", "a.csv", []),
        ("\t", "a.tsv", []),
        (";", "a.csv", ["semicolon-separated files"]),
        ("\t", "a.csv", ["tab-separated files"]),
        ("|", "a.csv", ["bar-separated files"]),
        (",", "a.tsv", ["comma-separated files"]),
    ],
)
def test_the_separator_is_recognised_by_the_header(
    tmp_path: Path, separator: str, name: str, conversion: list[str]
) -> None:
    path = write_text(tmp_path / name, make_lines(separator))
    assert read_rows(path) == ROWS and open_table(path).conversions == conversion


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path: Path, encoding: str) -> None:
    path = write_text(tmp_path / "a.csv", change_row(1, customer_id="Zoë €").encode(encoding))
    assert read_rows(path)[0][2] == "Zoë €"
    assert open_table(path).conversions == [f"{encoding.removesuffix('-sig').upper()} files with a byte order mark"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (change_row(2, customer_id="Zoë").encode("latin-1"), "line 3 is not UTF-8 .byte 0xeb.*iconv -f WINDOWS-1252"),
        (make_lines().encode("utf-16-le"), "NUL bytes: .* UTF-16 without a byte order mark"),
        (b"\xff\xfe" + make_lines().encode("utf-16-le")[:-1], "not UTF-16-LE"),
        (b"PAR1abc", "its content is .parquet, not text"),
        (gzip.compress(make_lines().encode()), "its content is .gz, not text"),
        (b"PK\x03\x04abc", r"its content is .zip or .xlsx"),
    ],
)
def test_another_content_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read_rows(write_text(tmp_path / "a.csv", content))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_blank_lines_and_a_missing_last_end_do_not_matter(tmp_path: Path, end: str) -> None:
    text = make_lines().replace("\n", end)
    assert read_rows(write_text(tmp_path / "a.csv", text)) == ROWS
    assert read_rows(write_text(tmp_path / "a.csv", end + text.replace(end, end * 2).rstrip())) == ROWS


def test_quoted_values_may_have_separators_line_breaks_and_quotes(tmp_path: Path) -> None:
    for quoted, value in (('"a,b"', "a,b"), ('"a\nb"', "a\nb"), ('"a\r\n,""b"""', 'a\r\n,"b"'), ('a"b', 'a"b')):
        rows = read_rows(write_text(tmp_path / "a.csv", change_row(2, merchant_id=quoted)))
        assert rows[1][3] == value and rows[0] == ROWS[0] and rows[2] == ROWS[2]


def test_a_value_longer_than_a_block_of_the_header_is_read(tmp_path: Path) -> None:
    rows = read_rows(write_text(tmp_path / "a.csv", change_row(3, merchant_id="m" * 100_000)))
    assert rows[2][3] == "m" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        change_row(1, customer_id='"c1'),
        change_row(1, customer_id='"c1').replace("c2", '"c2'),
        change_row(1, customer_id='"a \\"b\\" c"'),
    ],
)
def test_quotes_that_do_not_match_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"the quotes at line \d+ do not match"):
        read_rows(write_text(tmp_path / "a.csv", text))


@pytest.mark.parametrize(
    ("row", "values", "reason"),
    [
        (2, "t2,2026-01-05", "row 2 below the header has 2 values, but the header has 6 names: 't2,2026-01-05'"),
        (3, ",".join([*ROWS[2], "x"]), "row 3 below the header has 7 values, but"),
    ],
)
def test_a_row_with_another_number_of_values_is_refused(tmp_path: Path, row: int, values: str, reason: str) -> None:
    lines = make_lines().splitlines()
    lines[row] = values
    with pytest.raises(DataError, match=reason):
        read_rows(write_text(tmp_path / "a.csv", "\n".join(lines) + "\n"))
    lines += ["t9", "t10"]
    with pytest.raises(DataError, match="as have 2 more rows"):
        read_rows(write_text(tmp_path / "a.csv", "\n".join(lines)))


@pytest.mark.parametrize("text", ["", "\n", "\ufeff", ",".join(SIX), ",".join(SIX) + "\n\n"])
def test_a_file_without_rows_is_recognised(tmp_path: Path, text: str) -> None:
    assert not open_table(write_text(tmp_path / "a.csv", text)).has_rows


def test_columns_are_read_by_name_with_others_between_them(tmp_path: Path) -> None:
    rows = [["0", *row, "é", "é"] for row in ROWS]
    text = make_lines(names=["", *SIX, "note", "note"], rows=rows)
    path = write_text(tmp_path / "a.csv", text)
    assert read_rows(path) == ROWS and open_table(path).names == ["", *SIX, "note", "note"]
