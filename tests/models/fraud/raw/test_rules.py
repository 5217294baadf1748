"""Each rule of the table in docs/data.md, by examples of its input."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.purchase_files import (
    ROWS,
    SETTINGS,
    SIX,
    TIMES,
    change_row,
    make_lines,
    make_table,
    write_parquet,
    write_text,
)

from models.data.data_report import DataReport
from models.errors import DataError
from models.fraud import purchases
from models.fraud.raw.account import account_for
from models.fraud.raw.file_reader import ReadOptions
from models.fraud.raw.rules import RULES
from models.spans import find_spans, list_loose_files

Builder = Callable[[Path], Any]


def text(content: str | bytes, name: str = "b.csv") -> Builder:
    return lambda folder: write_text(folder / "span-000" / name, content)


def changed(**values: str) -> Builder:
    """Return what writes a text table with other values in its second row, and ids of its own."""
    return text(change_row(2, **values).replace("\nt", "\nu"))


def table(**columns: Any) -> Builder:
    ids = {"transaction_id": ["u1", "u2", "u3"]}
    return lambda folder: write_parquet(folder / "span-000" / "b.parquet", make_table(**{**ids, **columns}))


OTHERS = [[f"u{number}", *row[1:]] for number, row in enumerate(ROWS)]
OTHER = make_lines(rows=OTHERS)
FAR = [["u9", "1970-01-02 00:00:00", *ROWS[0][2:]]]

# Writers of examples beside a good file, in the order of the rules; settings for those that need some.
EXAMPLES: list[list[Builder]] = [
    [text(OTHER, "B.CSV"), text(OTHER.replace(",", "\t"), "in/b.tsv"), table()],
    [text(OTHER, "channel=online/b.csv")],
    [text("", "_SUCCESS"), text(OTHER, ".ipynb_checkpoints/b.csv")],
    [text("x", "b.xlsx"), text("x", "part-00000")],
    [text(make_lines(rows=[])), text("")],
    [lambda folder: write_text(folder / "truth.json", "{}")],
    [lambda folder: write_text(folder / "b.csv", OTHER), lambda folder: write_text(folder / "cats" / "1.png", "x")],
    [text(OTHER, "a.tsv")],
    [text(make_lines(rows=ROWS[:2]))],
    [text("PAR1", "b.parquet"), text("x", "b.csv.gz")],
    [text(change_row(2, customer_id='"a,\n""b"""').replace("\nt", "\nu"))],
    [text(make_lines(mark, rows=OTHERS)) for mark in ";\t|"],
    [text(OTHER.encode(encoding)) for encoding in ("utf-8-sig", "utf-16", "utf-32")],
    [text(OTHER.replace("c1", "é").encode("latin-1")), text(OTHER.encode("utf-16-le"))],
    [changed(customer_id='"c')],
    [text(OTHER + "u9,x\n")],
    [],
    [table(category=["a"] * 3, channel=["b"] * 3, device=["c"] * 3, distance_km=[1.0] * 3, label_time=TIMES)],
    [table(note=["x"] * 3)],
    [text(OTHER.replace("amount", "Amount")), text(OTHER.replace("amount", "price"))],
    [text(make_lines(names=[*SIX, "amount"], rows=[[*row, "1"] for row in OTHERS])), text(OTHER.split("\n", 1)[1])],
    [table(customer_id=["x" * 128, "2", "3"]), table(customer_id=[1, 2, 3])],
    [changed(customer_id=" c "), table(customer_id=[4e15, 2.0, 3.0])],
    [changed(customer_id=value) for value in ("", "nan", "1.5e+0", "x" * 129)],
    [table(), changed(event_time="2026-01-05T12:30:00+02:00")],
    [table(event_time=[1_767_600_000, 1_767_600_001, 1_767_600_002]), table(event_time=[time.date() for time in TIMES])],
    [changed(event_time=""), changed(event_time="05/01/2026"), table(label_time=[TIMES[0], TIMES[0], None])],
    [text(make_lines(rows=FAR))],
    [changed(amount="0"), changed(amount="1000000")],
    [text(make_lines(";", rows=[[*row[:4], row[4].replace(".", ","), row[5]] for row in OTHERS]))],
    [table(distance_km=[1.0, None, float("nan")])],
    [changed(amount=value) for value in ("", "nan", "inf", "-1", "1000001", '"1,234"', "12 EUR")],
    [table(category=[" a ", "b", "nan"])],
    [table(device=["x" * 65, "b", "c"])],
    [table(is_fraud=labels) for labels in (["1.0", "False", ""], [True, False, None], [1.0, 0.0, float("nan")])],
    [],
    [changed(is_fraud=value) for value in ("2", "-1", "yes")],
    [lambda folder: write_text(folder / "span-001" / "b.csv", make_lines(rows=[ROWS[0], *OTHERS]))],
    [changed(transaction_id="t1")],
]  # fmt: skip


def check(folder: Path) -> DataReport:
    """Account for a source as ``showcase check`` does, without the splits, for which three purchases are too few."""
    spans = find_spans(folder)
    report = account_for(spans, ReadOptions.of(SETTINGS)).to_report({})
    loose = {"outside the spans": list_loose_files(folder)} if list_loose_files(folder) else {}
    skipped = [*report.skipped, *loose, *report.unused]
    assert report.refused or sum(map(len, purchases.read_spans(spans.values(), SETTINGS))) == report.rows
    return DataReport(**{**vars(report), "skipped": dict.fromkeys(skipped, [])})


def find_treatment(folder: Path) -> str:
    try:
        report = check(folder)
    except DataError:
        return "refused"
    outcomes = {
        "refused": report.refused,
        "dropped": report.dropped,
        "skipped": report.skipped,
        "converted": report.converted,
    }
    return next((name for name, values in outcomes.items() if values), "used")


@pytest.mark.parametrize(
    ("rule", "examples"), list(zip(RULES, EXAMPLES, strict=True)), ids=lambda value: getattr(value, "given", "")
)
def test_input_is_treated_as_the_rule_says(tmp_path: Path, rule: Any, examples: list[Builder]) -> None:
    for number, build in enumerate(examples):
        source = tmp_path / str(number)
        write_text(source / "span-000" / "a.csv", make_lines())
        assert find_treatment(source) == "used"
        build(source)
        assert find_treatment(source) == rule.treatment, rule


def test_rules_that_need_an_option(tmp_path: Path) -> None:
    words = {"positive_label": "yes", "negative_label": "no", "columns": "amount=price"}
    lines = make_lines().replace("amount", "price").replace(",0\n", ",no\n").replace(",1\n", ",yes\n")
    write_text(tmp_path / "a.csv", lines)
    report = account_for({0: tmp_path}, ReadOptions.of({**SETTINGS, **words})).to_report({})
    assert report.rows == 3 and not report.refused and not report.summary()
