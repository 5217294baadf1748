"""A compiled spec run whole on this machine by Kubeflow's own local runner: nothing but the file says what happens."""

import logging
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store


def rehearse(path: Path, case: str, home: Path, tracking: str = "") -> store.Run:
    """Runs every task of the spec, each in a process of its own, with the home in place of the cluster's volume.

    Args:
        path: A file of `showcase compile`.
        case: Whose run it is.
        home: Where runs go; metadata are a SQLite file there, since tasks come one after the other.
        tracking: Address of the experiment tracker; empty for none.

    Returns:
        The run as its record has it.

    Raises:
        ValueError: if it ended before there was a record, naming the log.
    """
    from kfp import components, local

    runtime = local_runtime(home)
    before = {run.id for run in store.runs(runtime.metadata, case)}
    log = Path(runtime.root, case, "logs", f"{path.stem}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    broken = ""
    with tempfile.TemporaryDirectory() as scratch, log.open("w") as said, redirect_stdout(said):
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=scratch, raise_on_error=True)
        logging.getLogger().setLevel(logging.INFO)
        try:
            components.load_component_from_file(str(path))(
                root=runtime.root, metadata=runtime.database, tracking=tracking, flink=""
            )
        except RuntimeError as error:
            broken = str(error)
    new = [run for run in store.runs(runtime.metadata, case) if run.id not in before]
    if not new:
        raise ValueError(f"The run ended before it began: {_last(log) or broken} The whole story is in {log}.")
    print(f"what the tasks said is in {log}", file=sys.stderr)
    return new[-1]


def _last(log: Path) -> str:
    lines = [line.strip() for line in log.read_text().splitlines() if "Error: " in line]
    return lines[-1] if lines else ""
