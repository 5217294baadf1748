"""Arguments and options that several commands take, and how their words are read."""

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[Path, typer.Option("--home", help="Folder of all state.", envvar="SHOWCASE_HOME")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Case = Annotated[str, typer.Argument(help="Use case, such as fraud or image.")]
Data = Annotated[str | None, typer.Option(help="Folder of spans, folder of data, or a Keras data set's name.")]
Spans = Annotated[str, typer.Option(help="Window of spans, FIRST:LAST, either may be left out.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of a setting; can be repeated.")]
Tracking = Annotated[
    str,
    typer.Option(
        "--tracking",
        help="MLflow server's address; a file in the home by default, or none.",
        envvar="MLFLOW_TRACKING_URI",
    ),
]
DEFAULT_HOME = Path("runs")
