"""Commands that compile the pipeline for Kubeflow Pipelines, run the compiled spec locally, and submit it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import DEFAULT_HOME, Case, Data, Home, Json, Set, Spans, Tracking, Tune
from models.spans import parse_window
from models.use_case import parse_settings

app = typer.Typer()
JOBS_NAMESPACE = "showcase"  # that of the manifests
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
    from cli.kubeflow import specs

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
    from cli.kubeflow import specs

    raise typer.Exit(
        specs.rehearse(case, home, tracking, cluster, as_json, _collect_request_fields(data, spans, set_, tune))
    )


@app.command()
def submit(
    case: Case,
    host: Annotated[
        str, typer.Option(help="URL of Kubeflow Pipelines; KFP_TOKEN from the environment is sent as the token.")
    ] = "",
    kubernetes: Annotated[
        bool,
        typer.Option(
            "--kubernetes",
            help="Run the tasks as Kubernetes Jobs in the cluster of KUBECONFIG, and wait; needs no Kubeflow.",
        ),
    ] = False,
    resume: Annotated[
        str, typer.Option(help="With --kubernetes: id of a run to take up again; by default a new run.")
    ] = "",
    cancel: Annotated[str, typer.Option(help="With --kubernetes: id of a run whose Jobs are deleted.")] = "",
    every: Annotated[
        str,
        typer.Option(
            help="Cron expression with six fields, seconds first, for a recurring run; by default one run now."
        ),
    ] = "",
    experiment: Annotated[str, typer.Option(help="Name of the experiment; by default the use case's name.")] = "",
    namespace: Annotated[
        str,
        typer.Option(
            help="Namespace of your profile, if Kubeflow has several users; or of the Jobs, by default showcase."
        ),
    ] = "",
    account: Annotated[str, typer.Option(help="Service account of the pods; by default the cluster's.")] = "",
    data: Data = None,
    spans: Spans = ":",
    set_: Set = None,
    tune: Tune = False,
    cluster: Cluster = None,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Compile the pipeline and submit it to Kubeflow Pipelines, or run it as Kubernetes Jobs.

    It runs once, or on the schedule that --every gives. With --kubernetes the command waits for the end of the run; the
    exit code is 1 if no model was pushed.
    """
    from cli.kubeflow import specs
    from pipeline.kubeflow.submission import Target

    if bool(host) == kubernetes:
        raise ValueError("Give either --host, the URL of Kubeflow Pipelines, or --kubernetes.")
    request_fields = _collect_request_fields(data, spans, set_, tune)
    if host:
        if resume or cancel:
            raise ValueError("--resume and --cancel belong to --kubernetes; Kubeflow's pages do both for its runs.")
        specs.submit(
            case, Target(host, experiment or case, namespace, account), every, home, cluster, as_json, request_fields
        )
        return
    if every or experiment:
        raise ValueError("--every and --experiment belong to --host; Jobs are run once.")
    from cli.kubeflow import job_runs

    if cancel:
        job_runs.cancel(cancel, namespace or JOBS_NAMESPACE)
        return
    target = job_runs.JobTarget(namespace=namespace or JOBS_NAMESPACE, account=account, run=resume)
    raise typer.Exit(job_runs.run_jobs(case, target, home, cluster, as_json, request_fields))


def _collect_request_fields(data: str | None, spans: str, set_: list[str] | None, tune: bool) -> dict[str, Any]:
    first, last = parse_window(spans)
    return {"data": data, "first": first, "last": last, "changes": parse_settings(set_ or []), "tune": tune}
