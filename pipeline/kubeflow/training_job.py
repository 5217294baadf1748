"""Write a training job for several machines from the artifacts of a run.

``python -m pipeline.kubeflow.training_job CASE --home H --out FILE``

A run's Trainer starts its processes on one machine. Where that is too small, this writes the same training as a file, and
``python -m models.training.worker`` trains it in as many pods as there are (kubernetes/training).
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models import default_settings
from models.catalog import find
from pipeline.arguments import parse_settings
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store


def fields(case: str, home: Path, changes: Mapping[str, str], name: str) -> dict[str, Any]:
    """The fields of a :class:`models.training.distribute.job.Job` on what the case's last run that trained was trained on.

    Args:
        changes: Settings by name, as text.
        name: Of the folder for checkpoints, which all machines have to see; the same name goes on where it stopped.

    Raises:
        ValueError: if no run has come as far as a trained model, or for settings that cannot be.
    """
    from models.saved_model import restore  # with TensorFlow

    use_case, metadata = find(case), local_runtime(home).metadata
    typed = use_case.configured(changes)
    for run in reversed(store.runs(metadata, case)):
        made = {key: one.uri for outputs in store.outputs(metadata, run.id).values() for key, one in outputs.items()}
        if {"examples", "transform_graph", "model_run"} <= set(made):
            break
    else:
        raise ValueError(f"No run of {case} under {home} has trained a model; `showcase run {case}` does.")
    known = json.loads(run.facts["settings"])
    settings = {**known["data"], **known["training"]}
    settings |= {name: typed["training"][name] for name in changes if name in typed["training"]}
    if strangers := sorted(set(changes) - set(typed["training"])):
        raise ValueError(f"'{strangers[0]}' is no setting of the training: the examples are made already.")
    default_settings.check(settings)
    folder = home.resolve() / case / "training" / name
    return {
        "case": case,
        "settings": settings,
        "examples": made["examples"],
        "transform": made["transform_graph"],
        "folder": str(folder),
        "pretrained": restore.pretrained(Path(made["model_run"])),
    }


def parser() -> argparse.ArgumentParser:
    """The program's words."""
    words = argparse.ArgumentParser(
        prog="python -m pipeline.kubeflow.training_job", description=__doc__.partition("\n")[0]
    )
    words.add_argument("case")
    words.add_argument("--home", type=Path, default=Path("runs"), help="folder of all state")
    words.add_argument("--out", type=Path, required=True, help="file to write")
    words.add_argument("--name", default="cluster", help="name of the folder for checkpoints")
    words.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the training")
    words.add_argument(
        "--store", action="store_true", help="store the train split beside, as parameter servers need it"
    )
    return words


def main(words: list[str]) -> int:
    """The program."""
    told = parser().parse_args(words)
    try:
        found = fields(told.case, told.home, parse_settings(told.set), told.name)
        Path(found["folder"]).mkdir(parents=True, exist_ok=True)
        from models.training import entry_point
        from models.training.distribute.job import Job

        job = Job(**found)
        if told.store:
            job = entry_point.prepared(job, entry_point.Data.of(job))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    told.out.parent.mkdir(parents=True, exist_ok=True)
    job.save(told.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
