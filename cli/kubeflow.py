"""The commands that have Kubeflow Pipelines run the graph."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import DEFAULT_HOME, Case, Data, Home, Json, Set, Spans, Tracking
from pipeline.arguments import parse_settings, parse_window

app = typer.Typer()
Cluster = Annotated[
    Path | None, typer.Option(help="TOML file on image, volume and resources; kubernetes/pipeline.toml.")
]
Tune = Annotated[bool, typer.Option("--tune", help="Search for better training settings first.")]


@app.command("compile")
def compile_(
    case: Case,
    out: Annotated[Path, typer.Option("-o", "--out", help="YAML file to write.")],
    data: Data = None,
    spans: Spans = ":",
    set_: Set = None,
    tune: Tune = False,
    cluster: Cluster = None,
    as_json: Json = False,
) -> None:
    """Writes the pipeline as a spec that Kubeflow Pipelines runs, checked by the rules of its backend."""
    from cli import specs

    specs.compile_(case, out, cluster, as_json, _asked(data, spans, set_, tune))


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
    """Runs the compiled spec whole on this machine, by Kubeflow's own local runner: what a cluster would be told."""
    from cli import specs

    raise typer.Exit(specs.rehearse(case, home, tracking, cluster, as_json, _asked(data, spans, set_, tune)))


@app.command()
def submit(
    case: Case,
    host: Annotated[str, typer.Option(help="URL of Kubeflow Pipelines; KFP_TOKEN in the environment is sent along.")],
    every: Annotated[str, typer.Option(help="Cron of six fields, seconds first, for a recurring run.")] = "",
    experiment: Annotated[str, typer.Option(help="Name of the experiment; the case's by default.")] = "",
    namespace: Annotated[str, typer.Option(help="Of a profile, where there are several users.")] = "",
    account: Annotated[str, typer.Option(help="Service account of the pods.")] = "",
    data: Data = None,
    spans: Spans = ":",
    set_: Set = None,
    tune: Tune = False,
    cluster: Cluster = None,
    as_json: Json = False,
) -> None:
    """Sends the compiled spec to Kubeflow Pipelines: a run now, or one on a schedule."""
    from cli import specs
    from pipeline.kubeflow.submission import Target

    target = Target(host, experiment or case, namespace, account)
    specs.submit(case, target, every, cluster, as_json, _asked(data, spans, set_, tune))


def _asked(data: str | None, spans: str, set_: list[str] | None, tune: bool) -> dict[str, Any]:
    first, last = parse_window(spans)
    return {"data": data, "first": first, "last": last, "changes": parse_settings(set_ or []), "tune": tune}
