"""Keep the log messages of C++ libraries off the terminal; everything else on standard error passes.

TensorFlow writes its first messages while its libraries are loaded, before it reads ``TF_CPP_MIN_LOG_LEVEL``, and gRPC and
LiteRT write to file descriptor 2 themselves. So only a filter between the descriptor and the terminal reaches all of them.
Logs of stages and of child processes are files, which the filter does not see.
"""

import io
import os
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NoReturn, cast

EXIT_SECONDS = 1.0  # a child process that outlives the command keeps the pipe open, and is not waited for
PAUSE_SECONDS = 0.05  # text without a line break, such as a progress table's, is complete after this pause

# Only what says nothing about the command: information, and the errors of a machine without a GPU.
MESSAGES = re.compile(
    rb"I\d{4} \d\d:\d\d:[\d.]+ +\d+ [\w./-]+:\d+\] "  # absl: INFO
    rb"|WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|WARNING: Logging before (?:InitGoogleLogging|flag parsing)"
    rb"|INFO: (?:Created TensorFlow Lite|Initialized TensorFlow Lite) "
    rb"|E\d{4} [\d:. ]+ cuda_\w+\.cc:\d+\] failed call to cuInit: .* \(303\)"  # no driver is installed
    rb"|E\d{4} [\d:. ]+ meta_optimizer\.cc:\d+\] "  # TensorFlow then uses the graph as it is
    rb"|(?:WARNING[: ])?(?:urllib3[\w.]*:)?Retrying \(Retry\("  # urllib3: the last attempt raises what the command reports
)


class FilteredStream(io.TextIOWrapper):
    """Standard error through the filter: a terminal to those who ask, so that colours and progress stay."""

    def __init__(self, encoding: str) -> None:
        stream = io.FileIO(2, "wb", closefd=False)
        super().__init__(cast(BinaryIO, stream), encoding, errors="backslashreplace", write_through=True)
        self._pipe = os.fstat(2)

    def isatty(self) -> bool:
        """Whether descriptor 2 leads to the terminal; while a run redirects it, it leads to a log."""
        return os.path.samestat(os.fstat(2), self._pipe)


@contextmanager
def filter_library_messages() -> Iterator[None]:
    """Drop messages of C++ libraries while the block runs; without a terminal nothing but TensorFlow's level is set.

    The filter is a forked process, so that what a crashing library has said still arrives. Call this before threads start.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only
    if not sys.stderr.isatty():
        yield
        return
    sys.stderr.flush()
    terminal, previous = os.dup(2), sys.stderr
    source, sink = os.pipe()
    child = os.fork()
    if not child:
        os.close(sink)
        _filter_until_end(source, terminal)
    os.close(source)
    os.dup2(sink, 2)
    os.close(sink)
    sys.stderr = FilteredStream(previous.encoding)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = previous
        os.dup2(terminal, 2)
        os.close(terminal)
        _wait_for(child)


def _filter_until_end(source: int, terminal: int) -> NoReturn:
    """Copy until no process has the pipe open, then exit; the signals of the terminal are for the command."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        copy_other_lines(source, terminal)
    finally:  # also if the terminal was closed
        os._exit(0)


def copy_other_lines(source: int, target: int) -> None:
    """Copy lines from one descriptor to another until the end, without those of :data:`MESSAGES`."""
    rest = b""
    while True:
        if rest and not select.select([source], [], [], PAUSE_SECONDS)[0]:
            os.write(target, rest)
            rest = b""
        chunk = os.read(source, 65536)
        *lines, rest = (rest + chunk).split(b"\n")
        os.write(target, b"".join(line + b"\n" for line in lines if not MESSAGES.match(line)))
        if not chunk:
            os.write(target, rest)
            return


def _wait_for(child: int) -> None:
    deadline = time.monotonic() + EXIT_SECONDS
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return
        time.sleep(0.005)
