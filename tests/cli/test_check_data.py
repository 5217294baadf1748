"""``showcase check fraud``: the account of odd data as a person sees it, and its exit code."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.in_process import run_in_process
from support.purchase_files import ROWS, SIX, change_row, make_lines, make_table, write_parquet, write_text

# Windows of a few days are enough for these settings.
SHORT = {"warmup_days": 0, "valid_days": 1, "eval_days": 1, "label_delay_days": 0}


def check(folder: Path, *options: str) -> tuple[int, list[str]]:
    short = [word for name, value in SHORT.items() for word in ("--set", f"{name}={value}")]
    result = run_in_process("check", "fraud", "--data", folder, *short, *options)
    return result.returncode, (result.stdout + result.stderr).splitlines()


def make_day(day: int, labels: tuple[str, str] = ("0", "1")) -> list[list[str]]:
    """Return a fraud and nine honest purchases of a day of January 2026."""
    return [
        [f"d{day}-{number}", f"2026-01-{day:02d} 12:00:00", f"c{number}", "m1", "12.50", labels[number == 0]]
        for number in range(10)
    ]


def write_days(folder: Path, days: int = 5, **options: Any) -> Path:
    for day in range(1, days + 1):
        write_text(folder / f"span-{day:03d}" / "a.csv", make_lines(rows=make_day(day), **options))
    return folder


def test_good_data_is_accounted_for(tmp_path: Path) -> None:
    code, lines = check(write_days(tmp_path))
    assert code == 0 and lines[0] == "50 purchases in 5 files, 2026-01-01 to 2026-01-05 (5 days)"
    assert not any("skipped" in line or "refused" in line for line in lines)


def test_what_is_not_used_as_given_is_counted_in_a_line_each(tmp_path: Path) -> None:
    write_days(tmp_path)
    write_text(tmp_path / "truth.json", "{}")
    write_text(tmp_path / "span-001" / "b.xlsx", "x")
    write_text(tmp_path / "span-001" / "_SUCCESS", "")
    rows = [[*row, "x"] for row in [*make_day(2), make_day(1)[0], ["new", *make_day(2)[0][1:]]]]
    write_text(tmp_path / "span-002" / "a.csv", make_lines(";", [*SIX, "note"], rows))
    code, lines = check(tmp_path)
    assert code == 0 and lines[0] == "51 purchases in 5 files, 2026-01-01 to 2026-01-05 (5 days)"
    for line in (
        "skipped 3 files: 1 hidden, 1 .xlsx not supported, 1 outside the spans",
        "dropped 1 purchase: 1 repeated exactly",
        "unused columns: note",
        "converted: semicolon-separated files (1)",
    ):
        assert line in lines


def test_splits_count_a_repeated_purchase_once(tmp_path: Path) -> None:
    """A fraud of the last day that every earlier file repeats would be five times as many in eval."""
    write_days(tmp_path)
    expected = [line for line in check(tmp_path)[1] if line.startswith(("train", "valid", "eval"))]
    for day in range(1, 5):
        rows = [*make_day(day), make_day(5)[0], make_day(5)[1]]
        write_text(tmp_path / f"span-{day:03d}" / "a.csv", make_lines(rows=rows))
    code, lines = check(tmp_path)
    assert code == 0 and "dropped 8 purchases: 8 repeated exactly" in lines and lines[0].startswith("50 purchases")
    assert [line for line in lines if line.startswith(("train", "valid", "eval"))] == expected and len(expected) == 3


def test_labels_in_words_need_their_two_values(tmp_path: Path) -> None:
    for day in range(1, 6):
        rows = make_day(day, ("N", "Y"))
        write_text(tmp_path / f"span-{day:03d}" / "a.csv.gz", gzip.compress(make_lines(rows=rows).encode()))
    code, lines = check(tmp_path)
    assert code == 1 and "--set positive_label=yes --set negative_label=no" in "\n".join(lines)
    assert check(tmp_path, "--set", "positive_label=y", "--set", "negative_label=n")[0] == 0


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nan": (lambda f: write_text(f / "b.csv", change_row(2, amount="+nan")), "row 2 below the header, column 'amount'"),
    "null": (
        lambda f: write_parquet(f / "b.pq", make_table(customer_id=["c1", None, "c2"])),
        "b.pq, row 2, column 'customer_id': the id is missing",
    ),
    "label": (lambda f: write_parquet(f / "b.pq", make_table(is_fraud=[0, 1, 2])), "b.pq, row 3, column 'is_fraud'"),
    "latin-1": (lambda f: write_text(f / "b.csv", change_row(1, customer_id="é").encode("latin-1")), "line 2 is not UTF-8"),
    "fields": (lambda f: write_text(f / "b.csv", make_lines(rows=[ROWS[0], ["t2"]])), "row 2 below the header has 1 values"),
    "quote": (lambda f: write_text(f / "b.csv", change_row(1, customer_id='"c1')), "the quotes at line"),
    "header": (
        lambda f: write_text(f / "b.csv", make_lines().replace("amount", "Amount ")),
        'did you mean --columns "amount=Amount "',
    ),
    "no header": (lambda f: write_text(f / "b.csv", make_lines().split("\n", 1)[1]), "is no header"),
    "column": (lambda f: write_text(f / "b.csv", make_lines(names=[*SIX[:5], "amount"])), "no column 'is_fraud'"),
    "empty": (lambda f: write_text(f / "a.csv", ",".join(SIX)), "span-001 has no purchases"),
    "formats": (lambda f: write_parquet(f / "a.parquet", make_table()), "a.csv and a.parquet have the same name"),
    "copy": (lambda f: write_text(f / "b.csv", (f / "a.csv").read_text()), "All purchases of"),
    "id": (lambda f: write_text(f / "b.csv", change_row(1, transaction_id="d1-0")), "the transaction_id 'd1-0' of another"),
    "loose": (lambda f: write_text(f.parent / "b.csv", make_lines()), "1 data file outside them, such as b.csv"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_change_the_meaning_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    spoil, message = REFUSED[name]
    spoil(write_days(tmp_path) / "span-001")
    code, lines = check(tmp_path)
    assert code == (2 if name == "loose" else 1) and message in "\n".join(lines)
    assert "Traceback" not in "\n".join(lines)


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    code, lines = check(write_text(tmp_path / "a.csv", make_lines()))
    assert code == 2 and "is a file; --data takes a folder" in " ".join(lines)


def test_the_account_adds_up_as_json(tmp_path: Path) -> None:
    write_days(tmp_path)
    REFUSED["nan"][0](tmp_path / "span-001")
    write_text(tmp_path / "span-002" / "notes.md", "x")
    code, lines = check(tmp_path, "--json")
    report = json.loads("\n".join(lines))
    assert code == 1 and (report["files"], report["files_refused"], len(report["refused"])) == (5, 1, 1)
    assert (report["rows"], report["rows_refused"]) == (50, 3) and report["skipped"] == {
        ".md not supported": ["span-002/notes.md"]
    }
