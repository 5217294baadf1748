"""Runs as tables: all of them, or two side by side."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.catalog import CASES
from pipeline.local.local_runtime import local_runtime

WIDTH = 200  # of a table for a file or another program


def show(words: Sequence[str], home: Path, tracking: str, two: bool, from_mlflow: bool, as_json: bool) -> None:
    """Prints the list of runs, or two of them side by side."""
    from pipeline.tracking import comparison as found

    case, ids = (words[0], words[1:]) if words and words[0] in CASES else (None, words)
    runtime = local_runtime(home, tracking)
    rows = found.recorded(runtime, case) if from_mlflow else found.listed(runtime, case)
    if ids or two:
        compared = found.compare(runtime, found.pick(rows, ids), from_mlflow)
        print(json.dumps(dataclasses.asdict(compared), indent=1)) if as_json else _print_comparison(compared)
        return
    if as_json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
        return
    names = ("id", "state", "headline", "strategy", "spans", "data", "commit", "time")
    shown = [dataclasses.replace(row, state=f"{row.state} (cached)" if row.same_as else row.state) for row in rows]
    _print(names, [[getattr(row, name) for name in names] for row in shown])
    Console().print(found.where(runtime), style="dim", highlight=False, soft_wrap=True)


def _print_comparison(compared: Any) -> None:
    for title, names, rows in (
        ("", (), compared.facts),
        ("parameters that differ", (), compared.params),
        ("metrics", ("difference",), compared.metrics),
    ):
        shown = [[_short(value) for value in row] for row in rows] or [["none", "", ""]]
        _print((title, compared.first, compared.second, *names), shown)


def _short(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)


def _print(names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row))
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table)
