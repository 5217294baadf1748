"""Functions behind the commands of ``cli.main``: each does the work of one command and prints the result."""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from models.catalog import CASES, find_use_case
from pipeline import plan as planning
from pipeline import session
from pipeline.home import Home
from pipeline.interruption import EXIT_CODE
from pipeline.local.local_runtime import local_runtime
from pipeline.local.progress import ProgressTable
from pipeline.metadata import store
from pipeline.online import rollouts
from pipeline.plan import RunRequest, make_plan
from pipeline.run import Run
from pipeline.terminal import make_console, make_progress_bar, make_stderr_console
from serving import bucket_folders


def run(
    case: str,
    home: Path,
    as_json: bool,
    fresh: bool = False,
    quiet: bool = False,
    tracking: str = "",
    runner: str = "direct",
    **request_fields: Any,
) -> Run:
    """Plan and execute one run with a live table; print the outcome and its reason.

    Args:
        case: Name of the use case.
        home: Folder of all state.
        as_json: Print the run as JSON on standard output, and everything else on standard error.
        fresh: Execute every stage, cached or not.
        quiet: Print everything on standard error, and no JSON.
        tracking: Address of the experiment tracker; a file under the home if empty.
        runner: Which Beam runner executes the pipeline.
        request_fields: The fields of a :class:`RunRequest`.
    """
    console, started = make_stderr_console() if as_json or quiet else make_console(), time.monotonic()
    runtime = local_runtime(home, tracking, runner)
    console.print(find_use_case(case).title, style="bold")
    plan = make_plan(RunRequest(find_use_case(case), **request_fields), runtime)
    summary = f"data {plan.source}, spans {plan.first}:{plan.last}, version {plan.data_version}"
    console.print(summary, soft_wrap=True)
    for line in plan.report.summary() if plan.report else []:
        console.print(line, soft_wrap=True)
    if runtime.beam.page:
        console.print(f"Beam jobs are shown at {runtime.beam.page} while they run", soft_wrap=True)
    with ProgressTable(console) as table:
        ended = session.execute(plan, runtime, fresh, table.report)
    if "comparison" in ended.facts:
        console.print(ended.facts["comparison"], soft_wrap=True)
    seconds = time.monotonic() - started
    state = (ended.state, "green" if ended.state == "pushed" else "red")
    outcome = Text.assemble(state, f" {ended.reason} ", (f"({seconds:.1f} s, run {ended.id})", "dim"))
    console.print(outcome, soft_wrap=True)
    if ended.facts.get("untracked"):
        console.print(Text.assemble(("warning:", "yellow"), f" {ended.facts['untracked']}"), soft_wrap=True)
    if as_json:
        print(json.dumps({**dataclasses.asdict(ended), "seconds": seconds}, indent=1))
    return ended


def find_exit_code(ended: Run) -> int:
    """Return the exit code of a run: 0 if it pushed a model, 130 if it was interrupted, else 1."""
    return 0 if ended.state == "pushed" else EXIT_CODE if ended.state == "interrupted" else 1


def check_data(case: str, home: Path, as_json: bool, **request_fields: Any) -> int:
    """Print the account of the data: what a run would use, convert, skip and refuse; return 1 if it refuses anything.

    Args:
        case: Name of the use case.
        home: Folder of all state, where generated or downloaded data is kept.
        as_json: Print the report as JSON.
        request_fields: The fields of a :class:`RunRequest`.
    """
    report = planning.check_data(RunRequest(find_use_case(case), **request_fields), home / "data")
    if as_json:
        print(json.dumps(dataclasses.asdict(report), indent=1))
    else:
        make_console().print("\n".join(report.describe()), soft_wrap=True)
    return int(bool(report.refused))


def serve_browser_page(cases: Sequence[str], port: int, home: Path) -> None:
    """Serve the page that runs the served versions in the browser, until it is interrupted.

    Raises:
        ValueError: if one of the named use cases, or with none named every use case, has no pushed version.
        FileNotFoundError: if LiteRT.js is not installed.
    """
    from serving.browser import site

    names = [find_use_case(case).name for case in cases] or list(CASES)
    versions = {name: version for name in names if (version := rollouts.served_version(home, name))}
    missing = [name for name in names if name not in versions]
    if missing and (cases or not versions):
        raise ValueError(
            f"No version of {missing[0]} is pushed under {home}; run `showcase run {missing[0]} --home {home}` first."
        )
    site.serve(versions, port)


def print_neighbours(case: str, value: str, number: int, home: Path, as_json: bool) -> None:
    """Print the nearest neighbours of ``value`` in the embedding of the use case's last pushed run.

    Raises:
        ValueError: for a use case or a run without an embedding, or a value that is not in it.
    """
    from models.sequences.embedding import WordVectors

    if not find_use_case(case).has("sentences"):
        raise ValueError(f"{case} learns no embedding: its package has no sentences.py.")
    path = Home(home).metadata
    pushed = store.pushed_runs(path, case)
    outputs = store.outputs(path, pushed[-1].id).get("SkipGram", {}) if pushed else {}
    if not outputs:
        raise ValueError(
            f"No pushed run of {case} under {home} has an embedding; run `showcase run {case} --home {home}` first."
        )
    bucket_folders.pull(Path(outputs["embedding"].uri))
    nearest = WordVectors.load(outputs["embedding"].uri).neighbours(value, number)
    if as_json:
        print(json.dumps([{"value": word, "cosine": cosine} for word, cosine in nearest], indent=1))
        return
    for word, cosine in nearest:
        make_console().print(f"{word}  {cosine:.3f}")


def generate(case: str, out: Path, rows: int, days: int, seed: int, drift: list[str]) -> None:
    """Write generated spans with a progress bar."""
    console = make_console()
    data = find_use_case(case).load("data")
    with make_progress_bar(console) as bar:
        task = bar.add_task("writing", total=days)
        line = data.generate(
            out, rows, days, seed, drift, lambda done, total: bar.update(task, completed=done, total=total)
        )
    console.print(line, soft_wrap=True)


def draft_schema(case: str, data: str | None, columns: str, home: Path) -> None:
    """Print the curated schema with its listed values replaced by the values that the data has."""
    runtime = local_runtime(home)
    plan = make_plan(RunRequest(find_use_case(case), data, changes={"columns": columns} if columns else {}), runtime)
    with session.redirect_stderr(Home(home).case(case).logs / "schema.log"):
        from pipeline import schema_draft

        text = schema_draft.draft_schema(plan, runtime)
    print(text)


def print_checks(home: Path, as_json: bool) -> int:
    """Print the checks; return 1 if something that every run needs is missing."""
    from cli import doctor as checks

    results = checks.run_checks(home)
    if as_json:
        print(json.dumps([dataclasses.asdict(check) for check in results], indent=1))
    else:
        make_console().print(checks.render(results))
    return int(any(check.state == "missing" for check in results))


def write_dvc_file(source: str, home: Path, check: bool) -> None:
    """Write the ``.dvc`` file of a folder or of a use case's data; with ``check`` compare folder and file.

    Raises:
        ValueError: if the name is empty, or the folder differs from its file.
    """
    from cli import dvc_files as files

    if not source.strip():
        raise ValueError("The name of the folder is empty; name a folder of spans or a use case.")
    folder = Path(source)
    if source in CASES and not folder.is_dir():
        runs = Home(home).runs(source)
        if not runs:
            raise ValueError(f"There is no run of {source} under {home} whose data could be used; name a folder.")
        folder = Path(runs[-1].facts["source"])
    if not check:
        message = f"{files.write(folder)} describes {folder}."
    elif files.is_changed(folder):
        raise ValueError(f"{folder} differs from its .dvc file; `dvc data status --granular` lists the files.")
    else:
        message = f"{folder} is what its .dvc file describes."
    make_console().print(message, soft_wrap=True)
