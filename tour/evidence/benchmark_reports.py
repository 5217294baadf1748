"""What the benchmarks wrote: their tables with date and machine, or that they have not been run."""

import json
from pathlib import Path
from typing import Any

from pipeline.checkout import ROOT
from tour.evidence.result_types import NotHere, Result, Table

FOLDER = ROOT / "benchmarks" / "results"


def read(benchmark: str, folder: Path = FOLDER) -> dict[str, Any]:
    """The report of ``benchmarks/<benchmark>.py``; empty where it has not been run."""
    path = folder / f"{benchmark}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def missing(benchmark: str, what: str) -> NotHere:
    """What is not there yet, and the command that makes it."""
    return NotHere(what, f"Not measured yet: python -m benchmarks.{benchmark} does.")


def tables(benchmark: str, part: str, case: str = "", folder: Path = FOLDER) -> list[Result]:
    """A part of the report as a table for ``case``, or for each case that was measured."""
    told = read(benchmark, folder)
    found = {name: one[part] for name, one in told.get("cases", {}).items() if case in ("", name) and one.get(part)}
    return [
        Table(
            f"{name}: {part}, measured {told['machine']['date'][:10]} on {told['machine']['cores']} cores",
            tuple(rows[0]),
            tuple(tuple(row.values()) for row in rows),
        )
        for name, rows in found.items()
    ] or [missing(benchmark, f"Benchmark of {part}")]
