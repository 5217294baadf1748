"""A process that has imported TFX and TensorFlow and forks a child for each command that a test runs.

Importing TFX, TensorFlow and what else a run needs takes 8 to 10 s of processor time, which a test that starts ``python -m
cli.main`` pays each time. The server imports the same modules once, initialises none of them, and forks for every
request, as :mod:`pipeline.local.runner` forks for every stage: TensorFlow may be imported before a fork, but not used. The
child takes the arguments, the working directory, the environment and the standard streams of the request and runs the
module as ``python -m`` does. It has its own process id, session and exit code, and its changes do not affect other children.

A test has to start its own process (``[sys.executable, "-m", "cli.main", ...]``) if it depends on what differs: the imported
modules and the time of their import, warning filters that libraries add at import, the command line of the process in
``/proc``, and the seed of string hashes, which all children inherit from the server.

The server's program is ``fork_program.py``. Each test process has one server, see :mod:`support.command`.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

from support.fork_program import LARGEST_REQUEST
from support.process import kill_tree

PROGRAM = Path(__file__).with_name("fork_program.py")
# Variables that are read at the start of the interpreter or at the import of a library, so a child cannot change them.
READ_AT_START = ("PYTHON", "KERAS_", "LD_", "OMP_", "OPENBLAS_", "MKL_", "TF_USE_LEGACY_KERAS", "TF_ENABLE_ONEDNN_OPTS")
GRACE = 30.0  # seconds for the server to exit after a request

Stream = IO[Any] | int


class ForkedCommand:
    """A process forked by the server, with the part of the :class:`subprocess.Popen` interface that tests use.

    Attributes:
        args: The module and its arguments.
        pid: The process id.
        returncode: The exit code, or minus the signal number if a signal ended it; None until the end has been reported.
        stdout: Its standard output, if that is a pipe.
        stderr: Its standard error, if that is a pipe.
    """

    def __init__(self, args: list[str], answers: socket.socket, stdout: IO[str] | None, stderr: IO[str] | None):
        self.args, self.stdout, self.stderr = args, stdout, stderr
        self.returncode: int | None = None
        self._answers = answers
        text, handles, _, _ = socket.recv_fds(answers, 1024, 1)
        if not text:
            raise RuntimeError(f"The command server has ended; it did not start {' '.join(args)}.")
        (self._handle,) = handles
        self.pid: int = json.loads(text)["pid"]

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code.

        Raises:
            subprocess.TimeoutExpired: if it does not end within ``timeout`` seconds.
        """
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            text = self._answers.recv(1024)
            if not text:
                raise RuntimeError(f"The command server ended before {' '.join(self.args)} did.")
            self.returncode = json.loads(text)["code"]
            self._answers.close()
            os.close(self._handle)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, not to its children; do nothing if it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended in between
                signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def kill_tree(self) -> None:
        """Kill the process and its descendants and wait for it."""
        if self.poll() is None:
            kill_tree(self.pid)
        self.wait(GRACE)

    def __enter__(self) -> "ForkedCommand":
        return self

    def __exit__(self, *error: object) -> None:
        for stream in filter(None, (self.stdout, self.stderr)):
            stream.close()
        self.wait()


class CommandServer:
    """Start a server and send it requests. The server and its children end when this is closed or its process dies.

    Args:
        modules: Names of the modules that the server imports first.
        folder: Its working directory and the first entry of its ``sys.path``.

    Raises:
        RuntimeError: if a module cannot be imported, or starts threads or other state that does not survive a fork.
    """

    def __init__(self, modules: Iterable[str], folder: Path):
        self._environment = dict(os.environ)
        self._lock = threading.Lock()
        self._control, server_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with server_end, tempfile.TemporaryFile("w+") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(server_end.fileno()), *modules],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[server_end.fileno()],
                start_new_session=True,  # Ctrl-C goes to the tests, which then end the server
            )
            server_end.close()
            if not self._control.recv(1024):
                self._process.wait()
                raise RuntimeError(f"The command server did not start: {_text(log)[-4000:]}")

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._process.pid

    def start(
        self,
        module: str,
        *words: object,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = subprocess.DEVNULL,
        stderr: Stream = subprocess.DEVNULL,
    ) -> ForkedCommand:
        """Start ``python -m MODULE WORDS`` as a fork of the server.

        Args:
            module: Name of the module to run.
            words: Its arguments.
            cwd: Its working directory, and the first entry of its ``sys.path``.
            env: Its environment; by default that of the tests.
            stdin: A file or ``subprocess.DEVNULL``.
            stdout: A file, ``subprocess.DEVNULL`` or ``subprocess.PIPE``.
            stderr: As stdout.

        Raises:
            ValueError: if the environment differs from the server's in a variable that is read at start.
        """
        environment = dict(os.environ if env is None else env)
        if env is None:
            # Libraries that a test imports set some of these variables in the test process; a command starts without them.
            for name in [name for name in environment if name.startswith(READ_AT_START)]:
                del environment[name]
            environment |= {name: v for name, v in self._environment.items() if name.startswith(READ_AT_START)}
        self._check(environment)
        payload = {"module": module, "words": [str(word) for word in words], "cwd": str(cwd), "env": environment}
        request = json.dumps(payload).encode()
        if len(request) > LARGEST_REQUEST:
            raise ValueError(f"Arguments and environment have {len(request)} bytes, more than {LARGEST_REQUEST}.")
        answers, child_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as opened:
            opened.enter_context(child_end)
            reading, _ = _open_stream(stdin, os.O_RDONLY, opened)
            (writing, output), (errors, error_output) = (
                _open_stream(file, os.O_WRONLY, opened) for file in (stdout, stderr)
            )
            with self._lock:
                socket.send_fds(self._control, [request], [child_end.fileno(), reading, writing, errors])
        return ForkedCommand([module, *payload["words"]], answers, output, error_output)

    def run(
        self,
        module: str,
        *words: object,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python -m MODULE WORDS`` to its end and return its output as text, as :func:`subprocess.run` does.

        Raises:
            subprocess.TimeoutExpired: if it takes more than ``timeout`` seconds; it and its descendants are killed.
        """
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            command = self.start(module, *words, cwd=cwd, env=env, stdout=output, stderr=errors)
            try:
                code = command.wait(timeout)
            except BaseException as error:
                command.kill_tree()
                if isinstance(error, subprocess.TimeoutExpired):
                    error.output, error.stderr = _text(output), _text(errors)
                raise
            return subprocess.CompletedProcess(command.args, code, _text(output), _text(errors))

    def close(self) -> None:
        """End the server, which kills its running children, and wait for it."""
        with suppress(OSError):
            # A process forked by a test may hold a copy of the socket, so closing alone would not reach the server.
            self._control.shutdown(socket.SHUT_RDWR)
        self._control.close()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            kill_tree(self._process.pid)
            self._process.wait()

    def _check(self, environment: Mapping[str, str]) -> None:
        names = {name for name in {*environment, *self._environment} if name.startswith(READ_AT_START)}
        changed = sorted(name for name in names if environment.get(name) != self._environment.get(name))
        if changed:
            raise ValueError(f"{', '.join(changed)} is read when Python starts: start a separate process.")


def _open_stream(stream: Stream, mode: int, opened: ExitStack) -> tuple[int, IO[str] | None]:
    """Return the child's descriptor and, for a pipe, the file to read from; the stack closes what it opens."""
    if stream == subprocess.PIPE and mode == os.O_WRONLY:
        read, write = os.pipe()
        opened.callback(os.close, write)
        return write, open(read, errors="replace")
    if stream == subprocess.DEVNULL:
        descriptor = os.open(os.devnull, mode)
        opened.callback(os.close, descriptor)
        return descriptor, None
    return stream if isinstance(stream, int) else stream.fileno(), None


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read()
