"""Small files of purchases, and what reading them gives."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.fraud.raw.account import Account, account_for
from models.fraud.raw.file_reader import ReadOptions

TIMES = [datetime(2026, 1, 5, 0, 0), datetime(2026, 1, 5, 12, 30, 15, 250_000), datetime(2026, 1, 5, 23, 59, 59)]
SIX = ["transaction_id", "event_time", "customer_id", "merchant_id", "amount", "is_fraud"]
SETTINGS: Mapping[str, Any] = {"columns": "", "label_delay_days": 7}
# The values of the rows that `make_table` and `make_lines` give, as texts.
ROWS = [
    ["t1", "2026-01-05 00:00:00", "c1", "m1", "1.5", "0"],
    ["t2", "2026-01-05 12:30:15.25", "c2", "m1", "20", "1"],
    ["t3", "2026-01-05 23:59:59", "c1", "m2", "300.25", ""],
]


def make_table(**changes: Any) -> pa.Table:
    """Return three purchases with the required columns; ``changes`` replaces or adds columns."""
    columns = {
        "transaction_id": ["t1", "t2", "t3"],
        "event_time": pa.array(TIMES, pa.timestamp("us")),
        "customer_id": ["c1", "c2", "c1"],
        "merchant_id": ["m1", "m1", "m2"],
        "amount": [1.5, 20.0, 300.25],
        "is_fraud": pa.array([0, 1, None], pa.int8()),
    }
    return pa.table({**columns, **changes})


def make_lines(separator: str = ",", names: Sequence[str] = SIX, rows: Sequence[Sequence[str]] = ROWS) -> str:
    """Return the same purchases as a text table."""
    return "\n".join(separator.join(row) for row in [names, *rows]) + "\n"


def change_row(row: int, **changes: str) -> str:
    """Return the text table with other values in a row, which counts from 1."""
    values = [change_names(changes, old) if number == row else old for number, old in enumerate(ROWS, 1)]
    return make_lines(rows=values)


def change_names(changes: Mapping[str, str], row: Sequence[str]) -> list[str]:
    """Return a row with other values, by the name of the column."""
    return [changes.get(name, value) for name, value in zip(SIX, row, strict=True)]


def write_parquet(path: Path, table: pa.Table) -> Path:
    """Write a table and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def write_text(path: Path, content: str | bytes) -> Path:
    """Write a text or bytes and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def account_of(folder: Path, **settings: Any) -> Account:
    """Account for a folder as span 0."""
    return account_for({0: folder}, ReadOptions.of({**SETTINGS, **settings}))
