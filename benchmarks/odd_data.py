"""Read random odd folders of purchases or pictures, and count how many are read as they are meant, refused, or neither.

Every case is drawn from its number, so that ``--first N --cases 1`` repeats case N.
"""

import argparse
import os
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from benchmarks.odd_tables import OddCase, draw_case
from benchmarks.runs import ROOT, print_table, write_report
from models.errors import DataError
from models.fraud.purchases import read_spans
from models.fraud.raw.account import account_for
from models.fraud.raw.file_reader import ReadOptions

SETTINGS = {"columns": "", "label_delay_days": 7}
PROGRESS = 500  # cases between two lines of progress


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


def check_tables(random: Random, folder: Path) -> str:
    """Draw a folder of purchases and return what became of it."""
    return check_case(draw_case(random, folder))


def check_pictures(random: Random, folder: Path) -> str:
    """Draw a folder of pictures and return what became of it."""
    from benchmarks.odd_picture_check import check_picture_case
    from benchmarks.odd_pictures import draw_picture_case

    return check_picture_case(draw_picture_case(random, folder))


MODES: dict[str, Callable[[Random, Path], str]] = {"tables": check_tables, "pictures": check_pictures}


def main() -> None:
    """Check the cases, print the outcomes and the first failures, and write the JSON."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", module="PIL")  # of damaged metadata, which is not used
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("mode", nargs="?", choices=MODES, default="tables", help="What the folders hold.")
    parser.add_argument("--cases", type=int, default=20_000, help="Number of cases.")
    parser.add_argument("--first", type=int, default=0, help="Number of the first case.")
    parser.add_argument("--out", type=Path, help="JSON to write; by default under benchmarks/results.")
    options = parser.parse_args()
    name = "odd_data" if options.mode == "tables" else f"odd_{options.mode}"
    out = options.out or ROOT / "benchmarks/results" / f"{name}.json"
    started = time.process_time()
    outcomes: Counter[str] = Counter()
    failures = []
    for number in range(options.first, options.first + options.cases):
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcomes[MODES[options.mode](Random(number), Path(folder, "data"))] += 1
            except Exception as error:
                outcomes["failed"] += 1
                failures.append({"case": number, "error": f"{type(error).__name__}: {error}"[:500]})
                if len(failures) <= 3:
                    traceback.print_exc()
        if not (done := number + 1 - options.first) % PROGRESS:
            counts = ", ".join(f"{count:,} {name}" for name, count in sorted(outcomes.items()))
            print(f"{done:,} of {options.cases:,} cases: {counts}", flush=True)
    seconds = time.process_time() - started
    print_table(
        f"{options.cases:,} odd folders of {options.mode}, {seconds:.0f} CPU seconds",
        [{"outcome": name, "cases": count} for name, count in outcomes.items()],
    )
    write_report(
        out,
        mode=options.mode,
        cases=options.cases,
        cpu_seconds=round(seconds, 1),
        outcomes=dict(outcomes),
        failures=failures[:20],
    )


if __name__ == "__main__":
    main()
