"""Read the reports of the benchmarks: tables with date and machine, or a note that a benchmark has not been run."""

import json
from pathlib import Path
from typing import Any

from pipeline.checkout import ROOT
from tour.evidence.result_types import NotHere, Result, Table

FOLDER = ROOT / "benchmarks" / "results"


def read(benchmark: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Read the report of ``benchmarks/<benchmark>.py``; empty if it has not been run."""
    path = folder / f"{benchmark}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def not_measured(benchmark: str, title: str) -> NotHere:
    """Say that a benchmark has not been run, and with which command to run it."""
    return NotHere(title, f"Not measured yet. To measure it: python -m benchmarks.{benchmark}")


def tables(benchmark: str, part: str, case: str = "", folder: Path = FOLDER) -> list[Result]:
    """A part of the report as a table for ``case``, or one table for each case that was measured."""
    report = read(benchmark, folder)
    parts = {
        name: measured[part]
        for name, measured in report.get("cases", {}).items()
        if case in ("", name) and measured.get(part)
    }
    return [
        Table(
            f"{name}: {part}, measured {report['machine']['date'][:10]} on {report['machine']['cores']} cores",
            tuple(rows[0]),
            tuple(tuple(row.values()) for row in rows),
        )
        for name, rows in parts.items()
    ] or [not_measured(benchmark, f"Benchmark of {part}")]
