"""What the commands do and print."""

import dataclasses
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress as Bar

from models.catalog import CASES, find
from pipeline import session
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.online import rollouts
from pipeline.plan import Request, make_plan
from pipeline.progress import ProgressTable


def run(
    case: str,
    home: Path,
    as_json: bool,
    fresh: bool = False,
    quiet: bool = False,
    tracking: str = "",
    runner: str = "direct",
    **asked: Any,
) -> store.Run:
    """Plans and executes one run with a live table; prints what was pushed, or why not.

    Args:
        as_json: Print the run as JSON on standard output, and all else on standard error.
        quiet: All on standard error, and no JSON.
        tracking: Address of the experiment tracker; a file under the home if empty.
        runner: Who carries the Beam work.
        asked: The fields of a :class:`Request`.
    """
    # A descriptor of its own: while stages run, standard error belongs to the log.
    console, started = Console(file=os.fdopen(os.dup(2), "w")) if as_json or quiet else Console(), time.monotonic()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    runtime = local_runtime(home, tracking, runner)
    console.print(f"[bold]{find(case).title}[/bold]")
    plan = make_plan(Request(find(case), **asked), runtime)
    told = f"data {plan.source}, spans {plan.first}:{plan.last}, version {plan.data_version}"
    console.print(told, highlight=False, soft_wrap=True)
    if runtime.beam.page:
        console.print(
            f"A job of Beam's can be watched at {runtime.beam.page} while it runs", highlight=False, soft_wrap=True
        )
    with ProgressTable(console) as watch:
        ended = session.execute(plan, runtime, fresh, watch.report)
    if "comparison" in ended.facts:
        console.print(ended.facts["comparison"], highlight=False, soft_wrap=True)
    seconds = time.monotonic() - started
    colour = "green" if ended.state == "pushed" else "red"
    console.print(
        f"[{colour}]{ended.state}[/{colour}] {ended.reason} [dim]({seconds:.1f} s, run {ended.id})[/dim]",
        highlight=False,
        soft_wrap=True,
    )
    if ended.facts.get("untracked"):
        console.print(f"[yellow]warning:[/yellow] {ended.facts['untracked']}", highlight=False, soft_wrap=True)
    if as_json:
        print(json.dumps({**dataclasses.asdict(ended), "seconds": seconds}, indent=1))
    return ended


def browser(cases: Sequence[str], port: int, home: Path) -> None:
    """Serves the page that runs the served versions in the browser, until it is interrupted.

    Raises:
        ValueError: if a case, or every case, has no pushed version.
        FileNotFoundError: if LiteRT.js is not installed.
    """
    from serving.browser import site

    names = [find(case).name for case in cases] or list(CASES)
    versions = {name: version for name in names if (version := rollouts.served_version(home, name))}
    missing = [name for name in names if name not in versions]
    if missing and (cases or not versions):
        raise ValueError(
            f"Nothing of {missing[0]} is pushed under {home}; `showcase run {missing[0]} --home {home}` does it."
        )
    site.serve(versions, port)


def neighbours(case: str, value: str, number: int, home: Path, as_json: bool) -> None:
    """Prints what is most like ``value`` by the embedding of the case's last pushed run.

    Raises:
        ValueError: for a case or a run without an embedding, or a value that has no vector.
    """
    from models.embedding import Embedding

    if not find(case).has("sentences"):
        raise ValueError(f"{case} learns no embedding: its package has no sentences.py.")
    path = local_runtime(home).metadata
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
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("writing", total=days)
        line = data.generate(
            out, rows, days, seed, drift, lambda done, total: bar.update(task, completed=done, total=total)
        )
    console.print(line, highlight=False, soft_wrap=True)


def draft_schema(case: str, data: str | None, columns: str, home: Path) -> None:
    """Prints the curated schema with the values that the data has in place of the listed ones."""
    runtime = local_runtime(home)
    plan = make_plan(Request(find(case), data, changes={"columns": columns} if columns else {}), runtime)
    with session.stderr_to(home / case / "logs" / "schema.log"):
        from pipeline import schema_draft

        text = schema_draft.schema(plan, runtime)
    print(text)


def doctor(home: Path, as_json: bool) -> int:
    """Prints the checks; returns 1 if something that every run needs is missing."""
    from cli import doctor as checks

    found = checks.report(home)
    if as_json:
        print(json.dumps([dataclasses.asdict(check) for check in found], indent=1))
    else:
        Console().print(checks.render(found))
    return int(any(check.state == "missing" for check in found))


def dvc(what: str, home: Path, check: bool) -> None:
    """Writes the `.dvc` file of a folder or of a case's data, or says whether the folder is what its file says.

    Raises:
        ValueError: if it is not.
    """
    from cli import dvc_files as files

    folder = Path(what)
    if what in CASES and not folder.is_dir():
        past = store.runs(local_runtime(home).metadata, what)
        if not past:
            raise ValueError(f"There is no run of {what} under {home} whose data it could be.")
        folder = Path(past[-1].facts["source"])
    file = folder.resolve().with_name(folder.resolve().name + ".dvc") if check else files.write(folder)
    if differences := files.differences(file):
        raise ValueError(f"{folder} is not what {file} says: {'; '.join(differences)}.")
    told = files.read(file)
    Console().print(
        f"{file}: {told.nfiles} files, {told.size} bytes, {told.md5}: the folder is as it says.",
        highlight=False,
        soft_wrap=True,
    )
