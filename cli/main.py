"""The command line. TensorFlow and TFX are imported by the command that needs them, so that help answers at once."""

import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli import kubeflow, serving
from cli.options import DEFAULT_HOME, Case, Home, Json, Tracking
from pipeline.arguments import parse_settings, parse_window

app = typer.Typer(no_args_is_help=True, add_completion=False, help="A production ML system with its answers in it.")
app.add_typer(serving.app)
app.add_typer(kubeflow.app)


@app.command()
def run(
    case: Case,
    data: Annotated[
        str | None, typer.Option(help="Folder of spans, folder of data, or a Keras data set's name.")
    ] = None,
    spans: Annotated[str, typer.Option(help="Window of spans, FIRST:LAST, either may be left out.")] = ":",
    set_: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of a setting; can be repeated.")] = None,
    columns: Annotated[str, typer.Option(help="Other column names, OURS=YOURS, comma-separated.")] = "",
    strategy: Annotated[
        str | None,
        typer.Option(help="How training is distributed: none, mirrored, multiworker, parameter-server or tpu."),
    ] = None,
    schema: Annotated[Path | None, typer.Option(help="Schema to use in place of the case's own.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run every stage again, cached or not.")] = False,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the training; with --set deterministic=true equal bits.")
    ] = None,
    tune: Annotated[bool, typer.Option("--tune", help="Search for better training settings first.")] = False,
    runner: Annotated[str, typer.Option(help="Who carries the Beam work: direct, multiprocess, or flink.")] = "direct",
    tracking: Tracking = "",
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Runs the pipeline from raw spans to a pushed model, or goes on with a run that was stopped."""
    from cli import commands

    changes = parse_settings(set_ or []) | ({"columns": columns} if columns else {})
    changes |= {"strategy": strategy} if strategy else {}
    changes |= {"seed": str(seed)} if seed is not None else {}
    first, last = parse_window(spans)
    ended = commands.run(
        case,
        home,
        as_json,
        data=data,
        first=first,
        last=last,
        changes=changes,
        schema=schema,
        fresh=fresh,
        tune=tune,
        tracking=tracking,
        runner=runner,
    )
    raise typer.Exit(0 if ended.state == "pushed" else 1)


@app.command()
def refresh(
    case: Case,
    data: Annotated[
        str | None, typer.Option(help="Folder with newer spans; the served model's own by default.")
    ] = None,
    spans: Annotated[
        str, typer.Option(help="Window of spans, FIRST:LAST; by default as long, up to the newest.")
    ] = ":",
    set_: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of a setting; can be repeated.")] = None,
    tracking: Tracking = "",
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Refines the served model on newer spans through low-rank adapters, by the same gates."""
    from cli import commands

    first, last = parse_window(spans)
    ended = commands.run(
        case,
        home,
        as_json,
        data=data,
        first=first,
        last=last,
        changes=parse_settings(set_ or []),
        tracking=tracking,
        refresh=True,
    )
    raise typer.Exit(0 if ended.state == "pushed" else 1)


@app.command()
def status(
    case: Annotated[str | None, typer.Argument(help="Use case; all by default.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """What is served, and why the last candidate was or was not pushed."""
    from cli import status as served

    served.show(case, home, as_json)


@app.command()
def runs(
    words: Annotated[
        list[str] | None, typer.Argument(help="[CASE] [RUN [RUN]]; the end of a run's id is enough.")
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Compare the last two.")] = False,
    mlflow: Annotated[bool, typer.Option("--mlflow", help="Ask MLflow, and not this home's metadata.")] = False,
    tracking: Tracking = "",
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Lists runs, or compares two: one named run with the one before it, or the two named."""
    from cli import run_tables

    run_tables.show(words or [], home, tracking, compare, mlflow, as_json)


@app.command()
def dvc(
    what: Annotated[str, typer.Argument(help="Folder of spans, or a case for the data of its last run.")],
    check: Annotated[
        bool, typer.Option("--check", help="Only compare the folder with its file; needs no DVC.")
    ] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Has DVC, where it is installed, write the .dvc file of a folder, and compares the folder with it."""
    from cli import commands

    commands.dvc(what, home, check)


@app.command()
def demo(
    headless: Annotated[bool, typer.Option("--headless", help="Print a JSON summary at the end, and end.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE for the cases that have it, or CASE.NAME=VALUE; can be repeated."),
    ] = None,
    tracking: Tracking = "",
    home: Home = DEFAULT_HOME,
) -> None:
    """The whole story by itself: trained, served, drifted, noticed, trained again and swapped; then the tour stays up."""
    from cli import commands
    from tour.demo.collaborators import Collaborators
    from tour.demo.story import play_demo

    raise typer.Exit(play_demo(home, headless, tracking, parse_settings(set_ or []), Collaborators(commands.run)))


@app.command()
def generate(
    case: Case,
    out: Annotated[Path, typer.Option(help="Folder to write; has to be new or empty.")],
    rows: Annotated[int, typer.Option(min=1, help="How many rows.")] = 180_000,
    days: Annotated[int, typer.Option(min=1, help="Over how many days, a folder each.")] = 90,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 7,
    drift: Annotated[list[str] | None, typer.Option(help="KIND:SIZE@DAY; can be repeated.")] = None,
) -> None:
    """Writes raw spans and a manifest of what is true of them."""
    from cli import commands

    commands.generate(case, out, rows, days, seed, drift or [])


@app.command()
def schema(
    case: Case,
    data: Annotated[str | None, typer.Option(help="Folder of data; the embedded one by default.")] = None,
    columns: Annotated[str, typer.Option(help="Other column names, OURS=YOURS, comma-separated.")] = "",
    home: Home = DEFAULT_HOME,
) -> None:
    """Prints a first draft of a schema for new data, to be read, corrected and given to run --schema."""
    from cli import commands

    commands.draft_schema(case, data, columns, home)


@app.command()
def neighbours(
    case: Case,
    value: Annotated[str, typer.Argument(help="A word of the embedding, such as a merchant's id.")],
    number: Annotated[int, typer.Option("-k", min=1, help="How many.")] = 5,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """What is most like a value, by the vectors that the last pushed run has learnt."""
    from cli import commands

    commands.neighbours(case, value, number, home, as_json)


@app.command()
def browser(
    cases: Annotated[list[str] | None, typer.Argument(help="Use cases; by default all that are served.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8700,
    home: Home = DEFAULT_HOME,
) -> None:
    """Serves a page, on this machine only, that runs the served models in the browser."""
    from cli import commands

    commands.browser(cases or [], port, home)


@app.command()
def doctor(home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """What this machine has, and what will and will not work here."""
    from cli import commands

    raise typer.Exit(commands.doctor(home, as_json))


@app.command()
def ask(
    words: Annotated[list[str] | None, typer.Argument(help="A question's id, or words; all by default.")] = None,
    prove: Annotated[bool, typer.Option("--prove", help="Compute the evidence now.")] = False,
    case: Annotated[str | None, typer.Option(help="Whose run; the first that has the evidence by default.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Answers an interview question from the code, and proves it on the last pushed run."""
    from tour import ask as tour

    tour.ask(words or [], prove, case, home, as_json)


@app.command()
def evidence(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for index.html, evidence.json and figures.")],
    case: Annotated[str | None, typer.Option(help="Whose run; the first that has the evidence by default.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Computes the evidence of all questions now, as a page, as JSON and as figures."""
    from tour import bundle as tour

    raise typer.Exit(1 if tour.bundle(out, case, home, as_json) else 0)


@app.command("break")
def break_(
    name: Annotated[str | None, typer.Argument(help="An incident; without one they are listed.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take it back.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Breaks something on purpose and tells how the system answers."""
    from cli import incidents as tour

    tour.broken(name, undo, home, as_json)


@app.command()
def tour(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8600,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    token: Annotated[
        str,
        typer.Option(
            envvar="SHOWCASE_TOUR_TOKEN", help="What buttons need where others can look, too; a new one by default."
        ),
    ] = "",
    gateway: Annotated[str, typer.Option(help="HOST:PORT; this home's by default.")] = "",
    opens: Annotated[bool, typer.Option("--open", help="Open a browser.")] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Shows the system as it runs, every stage and every question, as pages on this machine."""
    from tour.web import command

    command.tour(home, host, port, token, gateway, opens)


def main() -> None:
    """The console script: any error a person can mend is one sentence on standard error."""
    warnings.filterwarnings("ignore")
    try:
        app(standalone_mode=True)
    except (ValueError, OSError) as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
