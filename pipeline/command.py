"""What the commands do and print."""

import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from models.catalog import CASES, find
from pipeline import runtime as runtimes
from pipeline import session, store
from pipeline.progress import Progress

COLOURS = {"done": "green", "cached": "cyan", "running": "yellow", "refused": "red", "failed": "red", "waiting": "dim"}

WIDTH = 200  # of a table for a file or another program


class Watch:
    """Shows how stages are doing: a table that changes in place on a terminal, elsewhere a line as each one ends."""

    def __init__(self, console: Console):
        self._console = console
        self._live = Live(console=console, auto_refresh=False)  # a refresh thread and fork do not go together
        self._ended: set[str] = set()

    def __enter__(self) -> "Watch":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def report(self, progress: Mapping[str, Progress]) -> None:
        """Takes the state of every stage."""
        if self._console.is_terminal:
            self._live.update(_table(progress), refresh=True)
            return
        for name, one in progress.items():
            if one.state not in ("waiting", "running") and name not in self._ended:
                self._ended.add(name)
                self._console.print(f"{name:17} {one.state:9}{one.seconds:6.1f} s", highlight=False)


def run(
    case: str,
    home: Path,
    as_json: bool,
    fresh: bool = False,
    quiet: bool = False,
    tracking: str = "",
    **asked: Any,
) -> store.Run:
    """Plans and executes one run with a live table; prints what was pushed, or why not.

    Args:
        as_json: Print the run as JSON on standard output, and all else on standard error.
        quiet: All on standard error, and no JSON.
        tracking: Address of the experiment tracker; a file under the home if empty.
        asked: The fields of a :class:`session.Request`.
    """
    # A descriptor of its own: while stages run, standard error belongs to the log.
    console, started = Console(file=os.fdopen(os.dup(2), "w")) if as_json or quiet else Console(), time.monotonic()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    runtime = runtimes.local(home, tracking)
    console.print(f"[bold]{find(case).title}[/bold]")
    plan = session.plan(session.Request(find(case), **asked), runtime)
    console.print(f"data {plan.source} spans {plan.first}:{plan.last} version {plan.data_version}", highlight=False)
    with Watch(console) as watch:
        ended = session.execute(plan, runtime, fresh, watch.report)
    if "comparison" in ended.facts:
        console.print(ended.facts["comparison"], highlight=False, soft_wrap=True)
    seconds = time.monotonic() - started
    colour = "green" if ended.state == "pushed" else "red"
    console.print(f"[{colour}]{ended.state}[/{colour}] {ended.reason} [dim]({seconds:.1f} s, run {ended.id})[/dim]",
                  highlight=False, soft_wrap=True)  # fmt: skip
    if ended.facts.get("untracked"):
        console.print(f"[yellow]warning:[/yellow] {ended.facts['untracked']}", highlight=False, soft_wrap=True)
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
        console.print(f"  served    {_served(home, name, runs)}", highlight=False, soft_wrap=True)
        console.print(f"  answers   {_answering(home, name)}", highlight=False, soft_wrap=True)
        last = f"{runs[-1].id}: {runs[-1].state}: {runs[-1].reason}"
        console.print(f"  last run  {last}", highlight=False, soft_wrap=True)


def _answering(home: Path, case: str) -> str:
    """The versions that the rollout names, and where they are served."""
    from pipeline import rollouts
    from serving import rollout

    folder = Path(runtimes.local(home).versions(case))
    if not rollout.versions(folder):
        return "nothing"
    there = rollouts.running(home)
    where = f"at {there['host']}:{there['gateway'] or there['rest'] or there['grpc']}" if there else "no server is running"
    return f"{rollouts.told(folder, rollout.read(folder))}; {where}"


def _served(home: Path, case: str, runs: list[store.Run]) -> str:
    """The newest version folder and the metric of the run that pushed it."""
    version = _newest(home, case)
    if version is None:
        return "nothing"
    pushed = [run.facts["headline"] for run in runs if run.facts.get("pushed") == str(version)]
    return f"{version} · {pushed[-1] if pushed else 'by a run that was stopped before its end'}"


def _newest(home: Path, case: str) -> Path | None:
    """The newest version folder, which is what a server takes."""
    folder = Path(runtimes.local(home).versions(case))
    versions = [path for path in folder.glob("[0-9]*") if path.name.isdigit()]
    return max(versions, key=lambda path: int(path.name), default=None)


def browser(cases: Sequence[str], port: int, home: Path) -> None:
    """Serves the page that runs the newest versions in the browser, until it is interrupted.

    Raises:
        ValueError: if a case, or every case, has no pushed version.
        FileNotFoundError: if LiteRT.js is not installed.
    """
    from serving.browser import site

    names = [find(case).name for case in cases] or list(CASES)
    versions = {name: version for name in names if (version := _newest(home, name))}
    missing = [name for name in names if name not in versions]
    if missing and (cases or not versions):
        raise ValueError(f"Nothing of {missing[0]} is pushed under {home}; `showcase run {missing[0]} --home {home}` does it.")
    site.serve(versions, port)


def demo(home: Path, headless: bool, tracking: str = "") -> int:
    """Runs every case on its embedded data; returns the exit code: 0 if all were pushed."""
    started = time.monotonic()
    ended = []
    for name in CASES:
        ended.append(run(name, home, as_json=False, quiet=headless, tracking=tracking))
        if ended[-1].state == "interrupted":
            break
    if headless:
        runs = [dataclasses.asdict(one) for one in ended]
        print(json.dumps({"seconds": round(time.monotonic() - started, 1), "runs": runs}, indent=1))
    else:
        status(None, home, False)
    return int(any(one.state != "pushed" for one in ended))


def neighbours(case: str, value: str, number: int, home: Path, as_json: bool) -> None:
    """Prints what is most like ``value`` by the embedding of the case's last pushed run.

    Raises:
        ValueError: for a case or a run without an embedding, or a value that has no vector.
    """
    from models.embedding import Embedding

    if not find(case).has("sentences"):
        raise ValueError(f"{case} learns no embedding: its package has no sentences.py.")
    path = runtimes.local(home).metadata
    pushed = [run for run in store.runs(path, case) if run.state == "pushed"]
    found = store.outputs(path, pushed[-1].id).get("SkipGram", {}) if pushed else {}
    if not found:
        raise ValueError(f"No pushed run of {case} under {home} has an embedding; `showcase run {case}` makes one.")
    near = Embedding.load(found["embedding"].uri).neighbours(value, number)
    if as_json:
        print(json.dumps([{"value": word, "cosine": cosine} for word, cosine in near], indent=1))
        return
    for word, cosine in near:
        Console().print(f"{word}  {cosine:.3f}", highlight=False)


def generate(case: str, out: Path, rows: int, days: int, seed: int, drift: list[str]) -> None:
    """Writes generated spans with a progress bar."""
    console = Console()
    data = find(case).load("data")
    with Bar(console=console, transient=True) as bar:
        task = bar.add_task("writing", total=days)
        line = data.generate(
            out, rows, days, seed, drift, lambda done, total: bar.update(task, completed=done, total=total)
        )
    console.print(line, highlight=False, soft_wrap=True)


def draft_schema(case: str, data: str | None, columns: str, home: Path) -> None:
    """Prints the curated schema with the values that the data has in place of the listed ones."""
    runtime = runtimes.local(home)
    plan = session.plan(session.Request(find(case), data, changes={"columns": columns} if columns else {}), runtime)
    with session.stderr_to(home / case / "logs" / "schema.log"):
        from pipeline import draft

        text = draft.schema(plan, runtime)
    print(text)


def doctor(home: Path, as_json: bool) -> int:
    """Prints the checks; returns 1 if something that every run needs is missing."""
    from pipeline import doctor as checks

    found = checks.report(home)
    if as_json:
        print(json.dumps([dataclasses.asdict(check) for check in found], indent=1))
    else:
        Console().print(checks.render(found))
    return int(any(check.state == "missing" for check in found))


def _table(progress: Mapping[str, Progress]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("stage", "state", "seconds", ""):
        table.add_column(name, justify="right" if name == "seconds" else "left")
    for name, one in progress.items():
        table.add_row(name, Text(one.state, COLOURS[one.state]), f"{one.seconds:.1f}" if one.seconds else "",
                      one.message if one.state == "running" else "")  # fmt: skip
    return table


def runs(words: Sequence[str], home: Path, tracking: str, two: bool, from_mlflow: bool, as_json: bool) -> None:
    """Prints the list of runs, or two of them side by side."""
    from pipeline import runs as found

    case, *ids = words if words and words[0] in CASES else [None, *words]
    runtime = runtimes.local(home, tracking)
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


def dvc(what: str, home: Path, check: bool) -> None:
    """Writes the `.dvc` file of a folder or of a case's data, or says whether the folder is what its file says.

    Raises:
        ValueError: if it is not.
    """
    from pipeline import dvc as files

    folder = Path(what)
    if what in CASES and not folder.is_dir():
        past = store.runs(runtimes.local(home).metadata, what)
        if not past:
            raise ValueError(f"There is no run of {what} under {home} whose data it could be.")
        folder = Path(past[-1].facts["source"])
    file = folder.resolve().with_name(folder.resolve().name + ".dvc") if check else files.write(folder)
    if differences := files.differences(file):
        raise ValueError(f"{folder} is not what {file} says: {'; '.join(differences)}.")
    told = files.read(file)
    Console().print(f"{file}: {told.nfiles} files, {told.size} bytes, {told.md5}: the folder is as it says.",
                    highlight=False, soft_wrap=True)  # fmt: skip


def _print_comparison(compared: Any) -> None:
    for title, names, rows in (
        ("", (), compared.facts), ("parameters that differ", (), compared.params),
        ("metrics", ("difference",), compared.metrics),
    ):  # fmt: skip
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
