"""What the commands do and print."""

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from models.catalog import CASES, find
from pipeline import runtime as runtimes
from pipeline import session, store

COLOURS = {"done": "green", "cached": "cyan", "running": "yellow", "refused": "red", "failed": "red", "waiting": "dim"}


def run(case: str, home: Path, as_json: bool, fresh: bool = False, **asked: Any) -> store.Run:
    """Plans and executes one run with a live table; prints what was pushed, or why not."""
    # A descriptor of its own: while stages run, standard error belongs to the log.
    console, started = Console(file=os.fdopen(os.dup(2), "w")) if as_json else Console(), time.monotonic()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    runtime = runtimes.local(home)
    console.print(f"[bold]{find(case).title}[/bold]")
    plan = session.plan(session.Request(find(case), **asked), runtime)
    console.print(f"data {plan.source} spans {plan.first}:{plan.last} version {plan.data_version}", highlight=False)
    stages: dict[str, Any] = {}
    with Live(console=console, auto_refresh=False, transient=not console.is_terminal) as live:

        def report(progress: dict[str, Any]) -> None:
            stages.update(progress)
            if console.is_terminal:
                live.update(_table(progress), refresh=True)

        ended = session.execute(plan, runtime, fresh, report)
    if not console.is_terminal:
        console.print(_table(stages))
    seconds = time.monotonic() - started
    colour = "green" if ended.state == "pushed" else "red"
    console.print(f"[{colour}]{ended.state}[/{colour}] {ended.reason} [dim]({seconds:.1f} s, run {ended.id})[/dim]",
                  highlight=False, soft_wrap=True)  # fmt: skip
    if as_json:
        print(json.dumps({**dataclasses.asdict(ended), "seconds": seconds}, indent=1))
    return ended


def status(case: str | None, home: Path, as_json: bool) -> None:
    """Prints, for each case, the served version and what came of the last run."""
    names = [find(case).name] if case else list(CASES)
    path = runtimes.local(home).metadata
    found = {name: store.runs(path, name) for name in names}
    if as_json:
        print(
            json.dumps({name: [dataclasses.asdict(run) for run in runs[-5:]] for name, runs in found.items()}, indent=1)
        )
        return
    console = Console()
    for name, runs in found.items():
        console.print(f"[bold]{name}[/bold]")
        if not runs:
            console.print(f"  no run yet; `showcase run {name}` makes the first")
            continue
        served = next((run for run in reversed(runs) if run.state == "pushed"), None)
        console.print(
            f"  served    {served.facts['pushed'] + ' · ' + served.facts['headline'] if served else 'nothing'}",
            highlight=False,
            soft_wrap=True,
        )
        console.print(
            f"  last run  {runs[-1].id}: {runs[-1].state}: {runs[-1].reason}", highlight=False, soft_wrap=True
        )


def _table(progress: dict[str, Any]) -> Group:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("stage", "state", "seconds"):
        table.add_column(name, justify="right" if name == "seconds" else "left")
    for name, one in progress.items():
        state = one if isinstance(one, str) else one.state
        seconds = 0.0 if isinstance(one, str) else one.seconds
        table.add_row(name, Text(state, COLOURS[state]), f"{seconds:.1f}" if seconds else "")
    return Group(table)
