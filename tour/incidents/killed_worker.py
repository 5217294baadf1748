"""Incident *worker*: two processes train together, one gets SIGKILL, and the cluster resumes from its checkpoint.

``python -m tour.incidents.killed_worker JOB.json`` is the launcher. It is a separate process, as the pipeline's stage is.
"""

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from pipeline.home import Home
from pipeline.metadata import store
from pipeline.run import Run
from tour.incidents import scratch
from tour.incidents.incident import IncidentEvent, IncidentFailedError, LiveSystem, MissingPrerequisiteError

SMALL = {
    "strategy": "multiworker",
    "workers": 2,
    "epochs": 4,
    "patience": 0,
    "checkpoint_steps": 5,
    "augment": False,
    "tensorboard": False,
    "profile": False,
    "folds": 0,
    "filters": 8,
}
VICTIM = "worker 1"


def run(live: LiveSystem) -> Iterator[IncidentEvent]:
    """Train the cheapest use case on the examples of its last run, in a scratch folder, and kill a worker."""
    case = scratch.choose_cheapest_case(live.home)
    last = scratch.find_last_pushed_run(live.home, case)
    with scratch.make_folder(live) as folder:
        job = write_job(live, last, folder)
        yield IncidentEvent(
            f"Two workers train {case.name} together; TF_CONFIG gives each the addresses of both.",
            "info",
            {"case": case.name},
        )
        log = folder / "launcher.log"
        with scratch.run_child([job], log, "tour.incidents.killed_worker") as process:
            yield from _kill_worker(log, process)
        result = folder / "result.json"
        if process.returncode or not result.exists():
            raise IncidentFailedError(f"The training did not succeed; the log ends with: {log.read_text()[-300:]}")
        record = json.loads(result.read_text())
        yield IncidentEvent(f"{record['replicas']} replicas completed all {record['steps']} steps.", "good", record)


def write_job(live: LiveSystem, last: Run, folder: Path) -> Path:
    """Write the job of the launcher to a file and return its path.

    Raises:
        MissingPrerequisiteError: if the examples of the run were deleted.
    """
    outputs = store.outputs(Home(live.home).metadata, last.id)
    examples, transform = outputs["SpanExampleGen"]["examples"].uri, outputs["Transform"]["transform_graph"].uri
    if not Path(examples).is_dir() or not Path(transform).is_dir():
        raise MissingPrerequisiteError(
            f"The examples of {last.id} were deleted; run `showcase run {last.case} --fresh` to recreate them."
        )
    settings = {name: value for group in last.settings.values() for name, value in group.items()}
    embedding = outputs.get("SkipGram", {}).get("embedding")
    job = {
        "case": last.case,
        "settings": settings | SMALL,
        "examples": examples,
        "transform": transform,
        "folder": str(folder / "job"),
        "pretrained": embedding.uri if embedding else "",
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    return path


def _kill_worker(log: Path, process: Any) -> Iterator[IncidentEvent]:
    """Yield the launcher's progress, and kill a worker once there is a checkpoint to resume from."""
    pids: dict[str, int] = {}
    killed = False
    for line in scratch.follow_log(log, process):
        if started := re.fullmatch(r"(\w+ \d+) is process (\d+)", line):
            pids[started[1]] = int(started[2])
            yield IncidentEvent(line, "good" if killed else "info", {"pid": pids[started[1]]})
        elif epoch := re.match(r"epoch (\d+)/(\d+)", line):
            yield IncidentEvent(line, "info", {"epoch": int(epoch[1])})
            if not killed and int(epoch[1]) >= 2:
                killed = True
                os.kill(pids[VICTIM], signal.SIGKILL)
                yield IncidentEvent(f"kill -9 {pids[VICTIM]}: {VICTIM} is dead.", "bad", {"pid": pids[VICTIM]})
        elif "restarts are left" in line:
            yield IncidentEvent(line, "bad")
        elif line.startswith("went on "):
            yield IncidentEvent(line, "good", {"step": int(re.findall(r"\d+", line)[0])})
    if not killed:
        raise IncidentFailedError(
            f"The training ended before a worker could be killed; the log ends with: {log.read_text()[-300:]}"
        )


def main(path: Path) -> None:
    """Run the launcher: train the job in ``path`` and write ``result.json`` next to it."""
    from models.training import entry_point
    from models.training.distribute import cluster
    from models.training.distribute.job import TrainingJob

    fields = json.loads(path.read_text())
    Path(fields["folder"]).mkdir()
    job = TrainingJob(**fields)
    with redirect_stdout(sys.stderr):  # standard error goes to the log that the incident reads
        cluster.run(entry_point.store_splits(job, entry_point.TrainingData.of(job)))
    record = json.loads(Path(job.folder, entry_point.RESULT).read_text())
    path.with_name("result.json").write_text(json.dumps({name: record[name] for name in ("steps", "replicas", "rows")}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
