"""Write a training job for several machines from the artifacts of a run.

``python -m pipeline.kubeflow.training_job CASE --home H --out FILE``

A run's Trainer starts its processes on one machine. If that machine is too small, this command writes the same training as
a file, and ``python -m models.training.worker`` runs it in several pods (kubernetes/training).
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models import default_settings
from models.catalog import find_use_case
from models.use_case import parse_settings
from pipeline.home import Home
from pipeline.metadata import store


def collect_job_fields(case: str, home: Path, changes: Mapping[str, str], name: str) -> dict[str, Any]:
    """Return the fields of a :class:`models.training.distribute.job.TrainingJob` for the data of the case's last trained run.

    Args:
        changes: Changed settings by name, as text.
        name: Name of the checkpoint folder, which all machines have to share; a job with the same name resumes.

    Raises:
        ValueError: if no run has trained a model, or for invalid settings.
    """
    from models.saved_model import restore  # with TensorFlow

    use_case, metadata = find_use_case(case), Home(home).metadata
    typed = use_case.configure(changes)
    for run in reversed(store.runs(metadata, case)):
        artifacts = {
            key: artifact.uri
            for outputs in store.outputs(metadata, run.id).values()
            for key, artifact in outputs.items()
        }
        if {"examples", "transform_graph", "model_run"} <= set(artifacts):
            break
    else:
        raise ValueError(f"No run of {case} under {home} has trained a model; `showcase run {case}` trains one.")
    run_settings = run.settings
    settings = {**run_settings["data"], **run_settings["training"]}
    settings |= {name: typed["training"][name] for name in changes if name in typed["training"]}
    if unknown := sorted(set(changes) - set(typed["training"])):
        raise ValueError(f"'{unknown[0]}' is not a training setting; the job reuses the run's examples as they are.")
    default_settings.check_settings(settings)
    folder = home.resolve() / case / "training" / name
    return {
        "case": case,
        "settings": settings,
        "examples": artifacts["examples"],
        "transform": artifacts["transform_graph"],
        "folder": str(folder),
        "pretrained": restore.find_pretrained(Path(artifacts["model_run"])),
    }


def build_parser() -> argparse.ArgumentParser:
    argument_parser = argparse.ArgumentParser(
        prog="python -m pipeline.kubeflow.training_job", description=__doc__.partition("\n")[0]
    )
    argument_parser.add_argument("case")
    argument_parser.add_argument("--home", type=Path, default=Path("runs"), help="folder of all state")
    argument_parser.add_argument("--out", type=Path, required=True, help="file to write")
    argument_parser.add_argument("--name", default="cluster", help="name of the folder for checkpoints")
    argument_parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the training"
    )
    argument_parser.add_argument(
        "--store", action="store_true", help="also store the train split as a dataset, which parameter servers read"
    )
    return argument_parser


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        job_fields = collect_job_fields(options.case, options.home, parse_settings(options.set), options.name)
        Path(job_fields["folder"]).mkdir(parents=True, exist_ok=True)
        from models.training import entry_point
        from models.training.distribute.job import TrainingJob

        job = TrainingJob(**job_fields)
        if options.store:
            job = entry_point.store_splits(job, entry_point.TrainingData.of(job))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    job.save(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
