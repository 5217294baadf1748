"""The program of the command server: imports the modules that are named, then forks for every request.

See :mod:`support.command_server`, which starts it. It imports nothing else of the tests, so that a child holds only what a
process of its own would.

Usage: python fork_program.py DESCRIPTOR [MODULE...]

The descriptor is one end of a pair of sockets that keep the bounds of messages. A request holds a module, its arguments, a
working directory and an environment as JSON, and four descriptors: the socket for the answers and the standard streams.
The first answer is the process id, with a descriptor of the process; the second, at its end, is its exit code.
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
# Descriptors of the processes that run, each with its process id and the socket for its exit code.
Running = dict[int, tuple[int, socket.socket]]


def main() -> None:
    """Serves requests until the other end of the socket is closed; in a child, runs the requested module."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    sys.path[0] = os.getcwd()  # as `python -m` has it
    import_modules(sys.argv[2:])
    control.send(b"ready")
    request = serve(control)
    if request is not None:
        prepare_process(request)
        try:
            runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        except SystemExit as end:
            if end.code is not None and not isinstance(end.code, int):
                raise  # it is printed
            end_process(end.code or 0)
        end_process(0)


def end_process(code: int) -> None:
    """Ends as the interpreter does, but leaves out the taking apart of all modules, which costs most of a second."""
    threading._shutdown()  # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


def import_modules(names: list[str]) -> None:
    """Imports the modules and checks that nothing has been started that does not survive a fork."""
    gc.disable()  # imports make millions of objects that stay
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
    """Forks a child for every request. Returns the request in the child, and None in the server at its end."""
    running: Running = {}
    try:
        while True:
            for ready in select.select([control, *running], [], [])[0]:
                if ready is not control:
                    report_end(ready, *running.pop(ready))
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
                with suppress(OSError):  # nobody waits for the answer any more
                    socket.send_fds(answers, [json.dumps({"pid": pid}).encode()], [handle])
    finally:
        for pid, _ in running.values():
            for kill in (os.killpg, os.kill):  # it may not have a process group of its own yet
                with suppress(ProcessLookupError):
                    kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def report_end(handle: int, pid: int, answers: socket.socket) -> None:
    """Sends the exit code of a process that has ended."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(handle)
    with suppress(OSError):  # nobody waits for the answer any more
        answers.send(json.dumps({"code": code}).encode())
    answers.close()


def close_all(running: Running) -> None:
    """Closes in a child what belongs to the server and to other children."""
    for handle, (_, answers) in running.items():
        os.close(handle)
        answers.close()
    running.clear()


def prepare_process(request: Request) -> None:
    """Gives the child the arguments, working directory and environment of the request, as a new process has them."""
    # SIGINT interrupts it also where the tests run in the background and a process of its own would ignore the signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    tempfile.tempdir = None
    sys.path[0] = request["cwd"]
    sys.argv[:] = [request["module"], *request["words"]]
    if "numpy" in sys.modules:
        # Without this all children would draw the same numbers; Python reseeds its own generator after a fork.
        sys.modules["numpy"].random.seed()


if __name__ == "__main__":
    main()
