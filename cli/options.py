"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from serving.bucket import is_uri


def parse_home(text: str) -> Path:
    """Return the folder that a text names; for ``s3://BUCKET/FOLDER`` or ``gs://BUCKET/FOLDER`` its working copy."""
    path = _open_bucket(str(text)) if is_uri(str(text)) else Path(text)
    if path.is_file():
        raise typer.BadParameter(f"'{path}' is a file.")
    return path


def _open_bucket(uri: str) -> Path:
    from pipeline.home import open_home  # imported late, because it loads the metadata store's library

    try:
        return open_home(uri)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Home = Annotated[
    Path,
    typer.Option(
        "--home",
        "--root",
        parser=parse_home,
        metavar="FOLDER",
        help="Folder of all state: runs, models, logs; or s3://BUCKET/FOLDER or gs://BUCKET/FOLDER.",
        envvar="SHOWCASE_HOME",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Case = Annotated[str, typer.Argument(help="Use case, such as fraud or image.")]
Data = Annotated[
    str | None,
    typer.Option(
        help="Folder of spans, folder of data, or a Keras data set's name; by default the data of the use case."
    ),
]
Spans = Annotated[str, typer.Option(help="Window of spans, FIRST:LAST; either may be left out.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Setting of the use case, NAME=VALUE; can be repeated.")]
Tracking = Annotated[
    str,
    typer.Option(
        "--tracking",
        help="MLflow server's address, or none; by default a file under the home.",
        envvar="MLFLOW_TRACKING_URI",
    ),
]
Tune = Annotated[bool, typer.Option("--tune", help="Search for better training settings first.")]
Columns = Annotated[
    str, typer.Option(help="Renamed columns of the data, OURS=YOURS, comma-separated; by default no renaming.")
]
Drift = Annotated[
    list[str] | None,
    typer.Option(help="Drift to inject, KIND:SIZE@DAY, such as amount:1.3@12; none by default; can be repeated."),
]
Gateway = Annotated[str, typer.Option(help="HOST:PORT of the gateway; by default the one that serves this home.")]
DEFAULT_HOME = Path("runs")
