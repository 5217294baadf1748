"""Tables of runs: the list of runs, or two runs side by side."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from models.catalog import CASES
from pipeline.local.local_runtime import local_runtime
from pipeline.terminal import make_console

WIDTH = 200  # columns of a table that is written to a file or a pipe


def show(words: Sequence[str], home: Path, tracking: str, two: bool, from_mlflow: bool, as_json: bool) -> None:
    """Print the list of runs, or a comparison of two.

    Args:
        words: Name of a use case and up to two run ids, each of them optional.
        home: Folder of all state.
        tracking: Address of the experiment tracker.
        two: Compare the last two runs if no ids are given.
        from_mlflow: Read from the experiment tracker instead of the metadata store.
        as_json: Print JSON instead of tables.
    """
    from pipeline.tracking import comparison

    case, ids = (words[0], words[1:]) if words and words[0] in CASES else (None, words)
    runtime = local_runtime(home, tracking)
    rows = comparison.list_mlflow_runs(runtime, case) if from_mlflow else comparison.list_runs(runtime, case)
    if ids or two:
        pair = comparison.compare_runs(runtime, comparison.choose_runs(rows, ids), from_mlflow)
        print(json.dumps(dataclasses.asdict(pair), indent=1)) if as_json else _print_comparison(pair)
        return
    if as_json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
        return
    names = ("id", "state", "headline", "strategy", "spans", "data", "commit", "time")
    labelled = [dataclasses.replace(row, state=f"{row.state} (cached)" if row.same_as else row.state) for row in rows]
    _print(names, [[getattr(row, name) for name in names] for row in labelled])
    make_console().print(comparison.describe_mlflow_store(runtime), style="dim", soft_wrap=True)


def _print_comparison(pair: Any) -> None:
    for title, names, rows in (
        ("", (), pair.facts),
        ("parameters that differ", (), pair.params),
        ("metrics", ("difference",), pair.metrics),
    ):
        cells = [[_format(value) for value in row] for row in rows] or [["none", "", ""]]
        _print((title, pair.first, pair.second, *names), cells)


def _format(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)


def _print(names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row))
    console = make_console()
    (console if console.is_terminal else make_console(width=WIDTH)).print(table)
