"""The command line, run as a person runs it."""

import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

from models.catalog import CASES
from support.command_server import CommandServer, ForkedCommand, Stream

ROOT = Path(__file__).parents[2]
MODULE = "cli.main"
# What the command line and a run import, and TensorFlow, TFX and the libraries of the stages with them. Not the command
# line itself: a module that is imported already should not be run as the main one.
IMPORTED = (
    "cli.kubeflow",
    "cli.commands",
    "pipeline.graph",
    "pipeline.local.runner",
    "cli.serving",
    "pipeline.outcome",
    "models.training.entry_point",
    *(case.module(part) for case in CASES.values() for part in ("data", "features", "model", "evaluation")),
)

_servers: list[CommandServer] = []
_lock = threading.Lock()


def showcase(
    *words: object, timeout: float = 1200, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``showcase WORDS`` to its end, as a process that the command server forks."""
    return command_server().run(MODULE, *words, cwd=cwd, env=env, timeout=timeout)


def start_showcase(
    *words: object,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    stdout: Stream = subprocess.DEVNULL,
    stderr: Stream = subprocess.DEVNULL,
) -> ForkedCommand:
    """Start ``showcase WORDS`` likewise, to be watched, sent signals and waited for."""
    return command_server().start(MODULE, *words, cwd=cwd, env=env, stdout=stdout, stderr=stderr)


def command_server() -> CommandServer:
    """The server of this process of the tests, started when it is first asked for."""
    with _lock:
        if not _servers:
            _servers.append(CommandServer(IMPORTED, ROOT))
        return _servers[0]


def close_command_server() -> None:
    """End the server, if one was started."""
    with _lock:
        while _servers:
            _servers.pop().close()
