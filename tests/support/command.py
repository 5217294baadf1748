"""Run the command line in a process, as a user does."""

import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from models.catalog import CASES
from support.command_server import CommandServer, ForkedCommand, Stream

ROOT = Path(__file__).parents[2]
MODULE = "cli.main"
# Modules that the command line and a run import, with TensorFlow, TFX and the libraries of the stages. The command line itself
# is missing, as a module that has been imported should not be run as the main module.
IMPORTED = (
    "cli.kubeflow_commands",
    "cli.commands",
    "pipeline.graph",
    "pipeline.local.runner",
    "cli.serving_commands",
    "pipeline.outcome",
    "models.training.entry_point",
    *(case.module(part) for case in CASES.values() for part in ("data", "features", "model", "evaluation")),
)

_servers: list[CommandServer] = []
_lock = threading.Lock()


def showcase(
    *words: object, timeout: float = 1200, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``showcase WORDS`` to its end in a process that the command server forks."""
    return command_server().run(MODULE, *words, cwd=cwd, env=env, timeout=timeout)


def start_showcase(
    *words: object,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    stdout: Stream = subprocess.DEVNULL,
    stderr: Stream = subprocess.DEVNULL,
) -> ForkedCommand:
    """Start ``showcase WORDS`` in such a process, for tests that observe it, send signals or wait."""
    return command_server().start(MODULE, *words, cwd=cwd, env=env, stdout=stdout, stderr=stderr)


def command_server() -> CommandServer:
    """Return the command server of this test process; the first call starts it."""
    with _lock:
        if not _servers:
            _servers.append(CommandServer(IMPORTED, ROOT))
        return _servers[0]


def close_command_server() -> None:
    """End the server, if one was started."""
    with _lock:
        while _servers:
            _servers.pop().close()
