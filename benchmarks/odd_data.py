"""Read random odd folders of purchases, and count how many are read as they are meant, refused, or neither.

Every case is drawn from its number, so that ``--first N --cases 1`` repeats case N.
"""

import argparse
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from random import Random

from benchmarks.odd_tables import OddCase, draw_case
from benchmarks.runs import ROOT, print_table, write_report
from models.errors import DataError
from models.fraud.purchases import read_spans
from models.fraud.raw.account import account_for
from models.fraud.raw.file_reader import ReadOptions

SETTINGS = {"columns": "", "label_delay_days": 7}


def check_case(case: OddCase) -> str:
    """Read a case and return what became of it: read, refused or damaged.

    Raises:
        AssertionError: if a file or row is not accounted for, a fault is not refused with its place, data without a fault is
            refused, or a purchase is not read as it is meant.
    """
    report = account_for(case.spans, ReadOptions.of(SETTINGS)).to_report({})
    assert report.files_given == case.files, f"{report.files_given} of {case.files} files are accounted for"
    for message in report.refused:
        assert any(str(folder) in message for folder in case.spans.values()), f"no place in {message!r}"
        assert message.endswith((".", "?")) and len(message.splitlines()) == 1, message
    try:
        tables = list(read_spans(case.spans.values(), SETTINGS))
    except DataError:
        assert report.refused, "reading refuses what the account does not"
        tables = []
    if not report.refused:
        assert sum(map(len, tables)) == report.rows, "reading and the account count other rows"
    if case.damaged:
        return "damaged"
    assert bool(report.refused) == bool(case.faults), f"faults {case.faults}, but refused {report.refused}"
    if case.faults:
        return "refused"
    rows = {row["transaction_id"]: row for rows in case.rows for row in rows}
    read_rows = {row["transaction_id"]: row for table in tables for row in table.to_pylist()}
    different = [name for name in rows.keys() | read_rows.keys() if rows.get(name) != read_rows.get(name)]
    assert not different, f"{read_rows.get(different[0])} is read, but {rows.get(different[0])} is meant"
    assert report.rows == len(rows) and report.rows_given == sum(map(len, case.rows))
    return "read"


def main() -> None:
    """Check the cases, print the outcomes and the first failures, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=20_000, help="Number of cases.")
    parser.add_argument("--first", type=int, default=0, help="Number of the first case.")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/odd_data.json", help="JSON to write.")
    options = parser.parse_args()
    outcomes: Counter[str] = Counter()
    failures = []
    for number in range(options.first, options.first + options.cases):
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcomes[check_case(draw_case(Random(number), Path(folder, "data")))] += 1
            except Exception as error:
                outcomes["failed"] += 1
                failures.append({"case": number, "error": f"{type(error).__name__}: {error}"[:500]})
                if len(failures) <= 3:
                    traceback.print_exc()
    print_table(
        f"{options.cases:,} odd folders", [{"outcome": name, "cases": count} for name, count in outcomes.items()]
    )
    write_report(options.out, cases=options.cases, outcomes=dict(outcomes), failures=failures[:20])


if __name__ == "__main__":
    main()
