"""Functions behind the commands for Kubeflow Pipelines: compile, rehearse, submit."""

import dataclasses
import json
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.text import Text

from models.catalog import find_use_case
from pipeline.home import Home
from pipeline.kubeflow import compiler, deployment, local_run, submission
from pipeline.plan import RunRequest
from pipeline.terminal import make_console


def compile_(case: str, out: Path, cluster: Path | None, as_json: bool, request_fields: dict[str, Any]) -> None:
    """Write the spec and print its tasks.

    Raises:
        ValueError: if the file's folder or Kubeflow's packages are missing, or as
            :func:`pipeline.kubeflow.compiler.compile_to`.
    """
    settings = deployment.read_deployment(cluster or deployment.DEFAULT_FILE)
    if not out.absolute().parent.is_dir():
        raise ValueError(f"There is no folder {out.absolute().parent} to write {out.name} to; create it.")
    tasks = compile_spec(out, RunRequest(find_use_case(case), **request_fields), settings)
    if as_json:
        print(json.dumps({"file": str(out), "tasks": tasks}, indent=1))
        return
    make_console().print(f"{out}: {len(tasks)} tasks on image {settings.image}: {', '.join(tasks)}", soft_wrap=True)


def rehearse(
    case: str, home: Path, tracking: str, cluster: Path | None, as_json: bool, request_fields: dict[str, Any]
) -> int:
    """Compile the pipeline, then run only the compiled file; return the exit code, 0 if a model was pushed."""
    Home(home).metadata.exists()  # raises before compiling if the metadata server does not answer
    path = home / case / "pipeline.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    tasks = compile_spec(
        path,
        RunRequest(find_use_case(case), **request_fields),
        deployment.read_deployment(cluster or deployment.DEFAULT_FILE),
    )
    ended = local_run.rehearse(path, case, home, tracking)
    if as_json:
        print(json.dumps({"file": str(path), "tasks": tasks, **dataclasses.asdict(ended)}, indent=1))
    else:
        state = (ended.state, "green" if ended.state == "pushed" else "red")
        cached = " (cached)" if "same_as" in ended.facts else ""
        outcome = Text.assemble(state, f"{cached} {ended.reason} ", (f"(run {ended.id})", "dim"))
        make_console().print(outcome, soft_wrap=True)
    return 0 if ended.state == "pushed" else 1


def submit(
    case: str,
    target: submission.Target,
    every: str,
    home: Path,
    cluster: Path | None,
    as_json: bool,
    request_fields: dict[str, Any],
) -> None:
    """Compile and submit the pipeline; print the address of the run.

    Raises:
        ValueError: for an invalid host or schedule, or as :func:`compile_`.
        OSError: if the host does not answer.
    """
    submission.check_target(target, every)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, f"{case}.yaml")
        compile_spec(
            path,
            RunRequest(find_use_case(case), **request_fields),
            deployment.place_in(deployment.read_deployment(cluster or deployment.DEFAULT_FILE), home),
        )
        submitted = submission.submit(path, f"{case}-{datetime.now():%Y%m%d-%H%M%S-%f}", target, every)
    if as_json:
        print(json.dumps(submitted, indent=1))
        return
    make_console().print(f"submitted; {submitted['url']}", soft_wrap=True)


def compile_spec(path: Path, request: RunRequest, settings: deployment.Deployment) -> list[str]:
    """Compile a spec; return the names of its tasks.

    Raises:
        ValueError: if Kubeflow's packages are missing, or as :func:`pipeline.kubeflow.compiler.compile_to`.
    """
    try:
        import kfp.kubernetes  # noqa: F401
    except ImportError:
        raise ValueError("Kubeflow's packages are not installed; run `uv sync --group kubeflow`.") from None
    return compiler.compile_to(path, request, settings)
