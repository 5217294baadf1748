"""Commands that run pipelines, list runs, and prepare data."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import (
    DEFAULT_HOME,
    Case,
    Columns,
    Data,
    Drift,
    Home,
    Json,
    Set,
    Spans,
    Tracking,
    Tune,
)
from models.spans import parse_window
from models.use_case import parse_settings

app = typer.Typer()


@app.command()
def run(
    case: Case,
    data: Data = None,
    spans: Spans = ":",
    set_: Set = None,
    columns: Columns = "",
    strategy: Annotated[
        str | None,
        typer.Option(
            help="How to distribute training: none, mirrored, multiworker, parameter-server or tpu; "
            "by default the use case's setting."
        ),
    ] = None,
    schema: Annotated[
        Path | None, typer.Option(help="Schema file (text proto) to use instead of the use case's own.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Execute every stage, also those that are cached.")] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Random seed of the training, by default the use case's; "
            "add --set deterministic=true for bit-identical runs."
        ),
    ] = None,
    tune: Tune = False,
    runner: Annotated[str, typer.Option(help="Beam runner: direct, multiprocess or flink.")] = "direct",
    tracking: Tracking = "",
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Run the pipeline from raw spans to a pushed model.

    An interrupted run is resumed; stages with unchanged inputs are cached. The exit code is 1 if no model was pushed.
    """
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
    raise typer.Exit(commands.find_exit_code(ended))


@app.command()
def check(
    case: Case,
    data: Data = None,
    spans: Spans = ":",
    set_: Set = None,
    columns: Columns = "",
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Report what a run would use, convert, skip and refuse of the data.

    Nothing is run. The exit code is 1 if the data is refused.
    """
    from cli import commands

    changes = parse_settings(set_ or []) | ({"columns": columns} if columns else {})
    first, last = parse_window(spans)
    raise typer.Exit(commands.check_data(case, home, as_json, data=data, first=first, last=last, changes=changes))


@app.command()
def refresh(
    case: Case,
    data: Annotated[
        str | None, typer.Option(help="Folder with newer spans; by default the data of the served model.")
    ] = None,
    spans: Annotated[
        str,
        typer.Option(
            help="Window of spans, FIRST:LAST; by default as many spans as the served model was trained on, "
            "up to the newest."
        ),
    ] = ":",
    set_: Set = None,
    tracking: Tracking = "",
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Refine the served model on newer spans with low-rank adapters (LoRA).

    The candidate passes the same gates as one that is trained from scratch. The exit code is 1 if no model was pushed.
    """
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
    raise typer.Exit(commands.find_exit_code(ended))


@app.command()
def status(
    case: Annotated[str | None, typer.Argument(help="Use case; all of them by default.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Show what is served and why the last candidate was or was not pushed."""
    from cli import status

    status.show(case, home, as_json)


@app.command()
def runs(
    words: Annotated[
        list[str] | None, typer.Argument(help="[CASE] [RUN [RUN]]; the last characters of a run's id are enough.")
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Compare the last two runs.")] = False,
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Read from MLflow instead of this home's metadata store.")
    ] = False,
    tracking: Tracking = "",
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """List runs, or compare two of them.

    One named run is compared with the run before it, two named runs with each other.
    """
    from cli import run_tables

    run_tables.show(words or [], home, tracking, compare, mlflow, as_json)


@app.command()
def dvc(
    source: Annotated[
        str, typer.Argument(help="Folder of spans, or a use case, which stands for the data of its last run.")
    ],
    check: Annotated[bool, typer.Option("--check", help="Only compare the folder with its .dvc file.")] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Have DVC write the .dvc file of a data folder, or compare the two."""
    from cli import commands

    commands.write_dvc_file(source, home, check)


@app.command()
def generate(
    case: Case,
    out: Annotated[Path, typer.Option(help="Folder to write; must be new or empty.")],
    rows: Annotated[int, typer.Option(min=1, help="Number of rows in all.")] = 180_000,
    days: Annotated[int, typer.Option(min=1, help="Number of days; each gets a folder (a span).")] = 90,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed writes the same bytes.")] = 7,
    drift: Drift = None,
) -> None:
    """Generate raw spans and a manifest (truth.json) of how they were made."""
    from cli import commands

    commands.generate(case, out, rows, days, seed, drift or [])


@app.command()
def schema(
    case: Case,
    data: Annotated[
        str | None, typer.Option(help="Folder of data; by default the data that comes with the use case.")
    ] = None,
    columns: Columns = "",
    home: Home = DEFAULT_HOME,
) -> None:
    """Print a draft of a schema for new data.

    Review and correct the draft, then pass it to `showcase run --schema`.
    """
    from cli import commands

    commands.draft_schema(case, data, columns, home)


@app.command()
def neighbours(
    case: Case,
    value: Annotated[str, typer.Argument(help="A value in the vocabulary of the embedding, such as a merchant's id.")],
    number: Annotated[int, typer.Option("-k", min=1, help="Number of neighbours to print.")] = 5,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Print a value's nearest neighbours in the learned embedding."""
    from cli import commands

    commands.print_neighbours(case, value, number, home, as_json)
