"""Consoles that print every text literally, so that brackets in a path or a message are neither markup nor an error.

Colours are given as :class:`rich.text.Text` or as a style.
"""

import io
import os
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress


def make_console(
    file: IO[str] | None = None, stderr: bool = False, width: int | None = None, terminal: bool | None = None
) -> Console:
    """Return a console that interprets neither markup nor emoji codes and highlights nothing.

    Args:
        file: Where it prints; by default standard output.
        stderr: Whether it prints on standard error.
        width: Columns; by default those of the terminal.
        terminal: Whether it prints on a terminal; by default the file knows.
    """
    return Console(
        file=file, stderr=stderr, width=width, force_terminal=terminal, markup=False, emoji=False, highlight=False
    )


def make_stderr_console() -> Console:
    """Return a console on a duplicate of standard error, since stages redirect descriptor 2 to the log of their run."""
    encoding = sys.stderr.encoding or "utf-8"
    is_terminal = sys.stderr.isatty() or None  # where library messages are filtered, the duplicate itself is a pipe
    return make_console(open(os.dup(2), "w", encoding=encoding, errors="backslashreplace"), terminal=is_terminal)


def make_progress_bar(console: Console) -> "Progress":
    """Return a progress bar that disappears at its end; outside a terminal, where it would leave empty lines, it is off."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def accept_any_locale() -> None:
    """Let the program work in a locale without UTF-8, such as ``LC_ALL=C``.

    Standard output and error print a character that their encoding lacks as a backslash escape. Paths and files are UTF-8,
    here and in child processes; as Python fixes that at its start, it is started again if necessary.
    """
    if sys.getfilesystemencoding() != "utf-8":
        streams = f"{sys.stdout.encoding}:backslashreplace"
        environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": streams}
        os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], environment)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(ValueError, OSError):  # the stream is closed, or its descriptor has been replaced
                stream.reconfigure(errors="backslashreplace")
