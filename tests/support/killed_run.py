"""A run that is killed in the middle of a stage."""

import time
from collections.abc import Sequence
from pathlib import Path

from support.command import ROOT, command_server
from support.process import is_alive

SECONDS = 600.0  # in which the stage is reached, and its process ends after the kill


def kill_run(stage: str, function: str, when: str, arguments: Sequence[object], folder: Path) -> None:
    """Start a run and kill it with SIGKILL before or after the stage's first call of a function.

    Args:
        stage: Name of the stage.
        function: The function as ``MODULE:NAME``; see ``support.held_stage``.
        when: ``before`` or ``after``.
        arguments: Words of the command ``showcase``.
        folder: Folder for the run's log.
    """
    reached, log = folder / f"{stage}.reached", folder / f"{stage}.log"
    with log.open("w") as output:
        program = ("tests.support.held_stage", stage, function, when, reached)
        run = command_server().start(*program, *arguments, cwd=ROOT, stdout=output, stderr=output)
    deadline = time.monotonic() + SECONDS
    try:
        while not reached.exists():
            assert run.poll() is None and time.monotonic() < deadline, f"{stage} was not reached: {log.read_text()}"
            time.sleep(0.01)
    finally:
        run.kill()
        run.wait()
    while is_alive(int(reached.read_text())):
        assert time.monotonic() < deadline, f"{stage} outlives its run"
        time.sleep(0.01)
