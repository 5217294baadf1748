"""Run a program on a pseudo-terminal, as a person does in a shell."""

import os
import pty
import subprocess
from collections.abc import Callable
from contextlib import suppress

from support.command import ROOT


def run_on_terminal(
    *command: object, react: Callable[[str, int], None] = lambda text, terminal: None
) -> tuple[int, str]:
    """Run a command to its end; return its exit code and what it printed on standard output and standard error.

    Args:
        command: Program and arguments.
        react: Called with all text so far and the descriptor of the terminal, to press keys there.
    """
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        list(map(str, command)), stdin=end, stdout=end, stderr=end, cwd=ROOT, preexec_fn=lambda: os.login_tty(end)
    )
    os.close(end)
    text = b""
    with suppress(OSError):  # the kernel's sign that nothing has the terminal open
        while chunk := os.read(terminal, 65536):
            text += chunk
            react(text.decode(errors="replace"), terminal)
    os.close(terminal)
    return process.wait(60), text.decode().replace("\r\n", "\n")
