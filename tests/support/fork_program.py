"""Program of the command server: import the named modules, then fork for every request.

:mod:`support.command_server` starts it. It imports no other test code, so that a child contains only what a separate process
would contain.

Usage: python fork_program.py DESCRIPTOR [MODULE...]

The descriptor is one end of a pair of sockets that preserve message boundaries. A request consists of a module, its
arguments, a working directory and an environment as JSON, and four descriptors: the socket for the answers and the standard
streams. The first answer is the process id, with a descriptor of the process; the second, at its end, is the exit code.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from importlib import import_module
from typing import Any

LARGEST_REQUEST = 1 << 17

Request = dict[str, Any]
# Descriptors of the running processes, each with its process id and the socket for its exit code.
Running = dict[int, tuple[int, socket.socket]]


def main() -> None:
    """Serve requests until the other end of the socket is closed; in a child, run the requested module."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    sys.path[0] = os.getcwd()  # as `python -m` does
    import_modules(sys.argv[2:])
    control.send(b"ready")
    request = serve(control)
    if request is not None:
        prepare_process(request)
        try:
            runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        except SystemExit as end:
            if end.code is not None and not isinstance(end.code, int):
                raise  # the interpreter prints it
            end_process(end.code or 0)
        end_process(0)


def end_process(code: int) -> None:
    """Exit as the interpreter does, but without tearing down all modules, which takes almost a second."""
    threading._shutdown()  # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


def import_modules(names: list[str]) -> None:
    """Import the modules and check that they started nothing that does not survive a fork."""
    gc.disable()  # imports create millions of permanent objects
    for name in names:
        import_module(name)
    gc.freeze()
    gc.enable()
    eager = sys.modules.get("tensorflow.python.eager.context")
    if eager and eager._context is not None and eager._context._context_handle is not None:
        raise RuntimeError("An import has initialised TensorFlow, whose threads do not survive a fork.")
    if threading.active_count() > 1:
        raise RuntimeError(f"An import has started threads, which do not survive a fork: {threading.enumerate()}.")
    sys.stdout.flush()


def serve(control: socket.socket) -> Request | None:
    """Fork a child for every request. Return the request in the child, and None in the server when it ends."""
    running: Running = {}
    try:
        while True:
            for readable in select.select([control, *running], [], [])[0]:
                if readable is not control:
                    report_end(readable, *running.pop(readable))
                    continue
                text, descriptors, _, _ = socket.recv_fds(control, LARGEST_REQUEST, 4)
                if not text:
                    return None
                answers, streams = socket.socket(fileno=descriptors[0]), descriptors[1:]
                pid = os.fork()
                if pid == 0:
                    os.setsid()
                    close_all(running)
                    control.close()
                    answers.close()
                    for number, descriptor in enumerate(streams):
                        os.dup2(descriptor, number)
                        os.close(descriptor)
                    return json.loads(text)
                handle = os.pidfd_open(pid)
                running[handle] = (pid, answers)
                for descriptor in streams:
                    os.close(descriptor)
                with suppress(OSError):  # the client has gone
                    socket.send_fds(answers, [json.dumps({"pid": pid}).encode()], [handle])
    finally:
        for pid, _ in running.values():
            for kill in (os.killpg, os.kill):  # it may not have its own process group yet
                with suppress(ProcessLookupError):
                    kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def report_end(handle: int, pid: int, answers: socket.socket) -> None:
    """Send the exit code of a process that has ended."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(handle)
    with suppress(OSError):  # the client has gone
        answers.send(json.dumps({"code": code}).encode())
    answers.close()


def close_all(running: Running) -> None:
    """Close, in a child, the descriptors of the server and of other children."""
    for handle, (_, answers) in running.items():
        os.close(handle)
        answers.close()
    running.clear()


def prepare_process(request: Request) -> None:
    """Set arguments, working directory and environment of the request, as in a new process."""
    # SIGINT interrupts the child even if the tests run in the background, where a new process would ignore the signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    tempfile.tempdir = None
    sys.path[0] = request["cwd"]
    sys.argv[:] = [request["module"], *request["words"]]
    if "numpy" in sys.modules:
        # Otherwise all children would draw the same numbers; Python reseeds its own generator after a fork.
        sys.modules["numpy"].random.seed()


if __name__ == "__main__":
    main()
