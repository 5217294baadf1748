"""A run whose stage waits in the middle of its work, to be killed there.

Usage: python -m tests.support.held_stage STAGE FUNCTION before|after FILE WORDS...

Runs ``showcase WORDS``. The stage waits for ever before or after its first call of the function, ``MODULE:NAME``; then the
file appears, with the number of the stage's process. The test starts it through the command server; it imports nothing of
the tests.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any


def hold(stage: str, function: str, when: str, file: Path) -> None:
    """Replace the function by one that waits, in the process of this stage only."""
    from pipeline.local import runner

    launch = runner.launch

    def launch_held(ir: Any, name: str, path: Any) -> str:
        if name == stage:
            owner, _, attribute = function.replace(":", ".").rpartition(".")
            place = resolve_name(owner)
            original = getattr(place, attribute)
            setattr(place, attribute, lambda *args, **more: wait(original, *args, **more))
        return launch(ir, name, path)

    def wait(original: Callable, *args: Any, **more: Any) -> None:
        if when == "after":
            original(*args, **more)
        part = file.with_suffix(".part")
        part.write_text(str(os.getpid()))
        part.rename(file)
        while True:
            signal.pause()

    runner.launch = launch_held


if __name__ == "__main__":
    from cli import main

    stage, function, when, file, *words = sys.argv[1:]
    hold(stage, function, when, Path(file))
    sys.argv[:] = ["showcase", *words]
    main.main()
