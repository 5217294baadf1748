"""Run the command line in the test's process, for tests of exit code and output, without the start-up time."""

import io
import os
import sys
import warnings
from contextlib import chdir, redirect_stderr, redirect_stdout
from subprocess import CompletedProcess
from unittest.mock import patch

from cli.main import main
from support.command import ROOT


def run_in_process(*words: object) -> CompletedProcess:
    """Run a command to its end, like ``support.command.showcase``, but in this process.

    An exception that the program would print as a traceback is raised. Output that a library writes directly to file
    descriptors, not to ``sys.stdout`` or ``sys.stderr``, is not in the result.
    """
    command, stdout, stderr = ["showcase", *map(str, words)], io.StringIO(), io.StringIO()
    state = patch.object(sys, "argv", command), patch.dict(os.environ), warnings.catch_warnings(), chdir(ROOT)
    with state[0], state[1], state[2], state[3], redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
    return CompletedProcess(command, code or 0, stdout.getvalue(), stderr.getvalue())
