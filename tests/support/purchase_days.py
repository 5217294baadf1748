"""Spans of a few purchases a day with six columns, whose times and labels a test chooses."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.fraud.case import CASE

START = datetime(2026, 1, 5)
FIRST_DAY = (START - datetime(1970, 1, 1)).days
DAYS, ROWS = 20, 20
# Days: 3 warm-up, 8 train, 2 valid, 2 label delay, 3 eval, 2 label delay.
CHANGES = {"label_delay_days": "2", "warmup_days": "3", "valid_days": "2", "eval_days": "3"}


def settings(**changes: Any) -> Mapping[str, Any]:
    """Return the data settings that fit ``DAYS`` days."""
    return {**CASE.configure(CHANGES)["data"], **changes}


def write_days(folder: Path, days: int = DAYS, rows: int = ROWS) -> dict[int, Path]:
    """Write a span a day; the first two purchases of a day are frauds."""
    spans = {}
    for day in range(days):
        times = [START + timedelta(days=day, minutes=7 * row) for row in range(rows)]
        table = pa.table(
            {
                "transaction_id": [f"t{day:02d}-{row:02d}" for row in range(rows)],
                "event_time": pa.array(times, pa.timestamp("us")),
                "customer_id": [f"c{row % 7}" for row in range(rows)],
                "merchant_id": [f"m{(row + day) % 5}" for row in range(rows)],
                "amount": [10.0 + row + day for row in range(rows)],
                "is_fraud": pa.array([int(row < 2) for row in range(rows)], pa.int8()),
            }
        )
        spans[day] = folder / f"span-{day:03d}"
        spans[day].mkdir(parents=True)
        pq.write_table(table, spans[day] / "a.parquet")
    return spans


def change_column(span: Path, name: str, change: Any) -> None:
    """Replace the values of a column in a span's file by ``change(values)``, a list or an Arrow array."""
    table = pq.read_table(span / "a.parquet")
    values = change(table[name].to_pylist() if name in table.column_names else [None] * len(table))
    column = values if isinstance(values, pa.Array) else pa.array(values)
    table = table.drop_columns([name] if name in table.column_names else []).append_column(name, column)
    pq.write_table(table, span / "a.parquet")
