"""Run a pipeline in which one stage waits in the middle of its work, so that a test can kill it there.

Usage: python -m tests.support.held_stage STAGE FUNCTION before|after FILE WORDS...

It runs ``showcase WORDS``. The stage waits forever before or after its first call of the function, ``MODULE:NAME``, and writes
its process id to the file. The test starts it through the command server; it imports no other test code.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any


def hold(stage: str, function: str, when: str, file: Path) -> None:
    """Replace the function by one that waits, only in the process of this stage."""
    from pipeline.local import runner

    launch = runner.launch

    def launch_held(ir: Any, name: str, path: Any) -> str:
        if name == stage:
            owner, _, attribute = function.replace(":", ".").rpartition(".")
            module = resolve_name(owner)
            original = getattr(module, attribute)
            setattr(module, attribute, lambda *args, **options: wait(original, *args, **options))
        return launch(ir, name, path)

    def wait(original: Callable, *args: Any, **options: Any) -> None:
        if when == "after":
            original(*args, **options)
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
