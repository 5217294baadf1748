"""Commands that compile the pipeline for Kubeflow Pipelines, run the compiled spec locally, and submit it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import DEFAULT_HOME, Case, Data, Home, Json, Set, Spans, Tracking, Tune
from models.spans import parse_window
from models.use_case import parse_settings

app = typer.Typer()
Cluster = Annotated[
    Path | None,
    typer.Option(help="TOML file with image, volume and resources; by default kubernetes/pipeline.toml."),
]


@app.command("compile")
def compile_(
    case: Case,
    out: Annotated[Path, typer.Option("-o", "--out", help="YAML file to write; the name must end in .yaml.")],
    data: Data = None,
    spans: Spans = ":",
    set_: Set = None,
    tune: Tune = False,
    cluster: Cluster = None,
    as_json: Json = False,
) -> None:
    """Compile the pipeline to a Kubeflow Pipelines spec and validate it.

    The spec is checked against the rules of Kubeflow's backend.
    """
    from cli import specs

    specs.compile_(case, out, cluster, as_json, _collect_request_fields(data, spans, set_, tune))


@app.command()
def rehearse(
    case: Case,
    data: Data = None,
    spans: Spans = ":",
    set_: Set = None,
    tune: Tune = False,
    cluster: Cluster = None,
    tracking: Tracking = "",
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Run the compiled spec on this machine with Kubeflow's local runner.

    It executes what a cluster would be sent. The exit code is 1 if no model was pushed.
    """
    from cli import specs

    raise typer.Exit(
        specs.rehearse(case, home, tracking, cluster, as_json, _collect_request_fields(data, spans, set_, tune))
    )


@app.command()
def submit(
    case: Case,
    host: Annotated[
        str, typer.Option(help="URL of Kubeflow Pipelines; KFP_TOKEN from the environment is sent as the token.")
    ],
    every: Annotated[
        str,
        typer.Option(
            help="Cron expression with six fields, seconds first, for a recurring run; by default one run now."
        ),
    ] = "",
    experiment: Annotated[str, typer.Option(help="Name of the experiment; by default the use case's name.")] = "",
    namespace: Annotated[
        str, typer.Option(help="Namespace of your profile, if Kubeflow has several users; none by default.")
    ] = "",
    account: Annotated[str, typer.Option(help="Service account of the pods; by default Kubeflow's.")] = "",
    data: Data = None,
    spans: Spans = ":",
    set_: Set = None,
    tune: Tune = False,
    cluster: Cluster = None,
    as_json: Json = False,
) -> None:
    """Compile the pipeline and submit it to Kubeflow Pipelines.

    It runs once, or on the schedule that --every gives.
    """
    from cli import specs
    from pipeline.kubeflow.submission import Target

    target = Target(host, experiment or case, namespace, account)
    specs.submit(case, target, every, cluster, as_json, _collect_request_fields(data, spans, set_, tune))


def _collect_request_fields(data: str | None, spans: str, set_: list[str] | None, tune: bool) -> dict[str, Any]:
    first, last = parse_window(spans)
    return {"data": data, "first": first, "last": last, "changes": parse_settings(set_ or []), "tune": tune}
