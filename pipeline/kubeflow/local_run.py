"""Run a compiled spec on this machine with Kubeflow's local runner, from the spec file alone."""

import logging
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.run import Run


def rehearse(path: Path, case: str, home: Path, tracking: str = "") -> Run:
    """Run every task of the spec in its own process, with the home in place of the cluster's volume.

    Args:
        path: A spec written by `showcase compile`.
        case: Name of the use case.
        home: Folder of the run's state; a SQLite file there suffices for the metadata, because tasks run one at a time.
        tracking: Address of the experiment tracker; empty for none.

    Returns:
        The run's record in the metadata store.

    Raises:
        ValueError: if the run ended before it was recorded, naming the log.
    """
    from kfp import components, local

    runtime = local_runtime(home)
    earlier_ids = {run.id for run in store.runs(runtime.metadata, case)}
    log = runtime.case(case).logs / f"{path.stem}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    failure = ""
    with tempfile.TemporaryDirectory() as scratch, log.open("w") as output, redirect_stdout(output):
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=scratch, raise_on_error=True)
        logging.getLogger().setLevel(logging.INFO)
        try:
            components.load_component_from_file(str(path))(
                root=runtime.root, metadata=runtime.database, tracking=tracking, flink=""
            )
        except RuntimeError as error:
            failure = str(error)
    new_runs = [run for run in store.runs(runtime.metadata, case) if run.id not in earlier_ids]
    if not new_runs:
        raise ValueError(f"The run ended before it was recorded: {_last_error(log) or failure} See {log} for details.")
    print(f"the output of the tasks is in {log}", file=sys.stderr)
    return new_runs[-1]


def _last_error(log: Path) -> str:
    lines = [line.strip() for line in log.read_text().splitlines() if "Error: " in line]
    return lines[-1] if lines else ""
