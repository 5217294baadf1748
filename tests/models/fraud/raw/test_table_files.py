"""Files of a span: which are read by their names, which are skipped for which reason."""

from pathlib import Path

import pytest

from models.fraud.raw.table_files import find_double_formats, list_tables


def create_files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


@pytest.mark.parametrize(
    ("name", "is_text", "separator", "codec"),
    [
        ("a.csv", True, ",", ""),
        ("a.CSV", True, ",", ""),
        ("a.csv.gz", True, ",", "gzip"),
        ("a.csv.zst", True, ",", "zstd"),
        ("a.Csv.BZ2", True, ",", "bz2"),
        ("a.tsv", True, "\t", ""),
        ("a.tsv.gz", True, "\t", "gzip"),
        ("a.parquet", False, "", ""),
        ("part-0.snappy.PARQUET", False, "", ""),
        ("a.pq", False, "", ""),
    ],
)
def test_format_follows_from_the_suffix_in_any_case(
    tmp_path: Path, name: str, is_text: bool, separator: str, codec: str
) -> None:
    (file,) = list_tables(create_files(tmp_path, name)).files
    assert (file.path.name, file.is_text, file.separator, file.codec) == (name, is_text, separator, codec)


def test_other_files_are_skipped_with_a_reason(tmp_path: Path) -> None:
    names = ("notes.txt", "a.csv.zip", "b.xlsx", "part-00000", "_SUCCESS", ".a.csv.crc", ".ipynb_checkpoints/a.csv")
    listing = list_tables(create_files(tmp_path, *names, "deep/er/a.csv", "_temporary/0/b.csv"))
    assert [file.path for file in listing.files] == [tmp_path / "deep/er/a.csv"]
    assert {reason: len(paths) for reason, paths in listing.skipped.items()} == {
        "hidden": 4,
        ".csv.zip not supported": 1,
        ".xlsx not supported": 1,
        ".txt not supported": 1,
        "without suffix": 1,
    }


def test_partitions_give_columns(tmp_path: Path) -> None:
    (file,) = list_tables(
        create_files(tmp_path, "day=2026-01-01/channel=a%20b/empty=__HIVE_DEFAULT_PARTITION__/x.pq")
    ).files
    assert file.partition == {"day": "2026-01-01", "channel": "a b", "empty": None}


def test_one_table_in_two_formats_is_found(tmp_path: Path) -> None:
    files = list_tables(create_files(tmp_path, "a.csv", "a.parquet", "b.csv", "b.csv.gz", "deep/a.csv", "c.pq")).files
    doubles = find_double_formats(files)
    assert list(doubles) == [tmp_path / "a.parquet", tmp_path / "b.csv.gz"]
    assert "a.csv and a.parquet have the same name in two formats; keep one" in doubles[tmp_path / "a.parquet"]
