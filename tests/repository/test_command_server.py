"""The server that forks commands for tests: commands behave like new processes, and no process is left behind."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import ROOT, command_server, showcase, start_showcase
from support.command_server import CommandServer
from support.planted_home import plant_run
from support.process import is_alive, list_children

pytestmark = pytest.mark.system

TESTS = Path(__file__).parents[1]
PROBE = """
import json, logging, numpy, os, random, signal, sys, threading, warnings
json.dump({
    "argv": sys.argv[1:], "name": __name__, "cwd": os.getcwd(), "path": sys.path[0], "environment": dict(os.environ),
    "parent": os.getppid(), "session": os.getsid(0) == os.getpid(), "threads": threading.active_count(),
    "filters": len(warnings.filters), "handlers": len(logging.root.handlers), "level": logging.root.level,
    "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler, "input": sys.stdin.read(),
    "files": sorted(os.listdir("/proc/self/fd"))[:-1], "draw": [random.random(), float(numpy.random.random())],
}, sys.stdout)
os.environ["CHANGED"] = "yes"
warnings.simplefilter("error")
logging.basicConfig(level=logging.DEBUG)
os.chdir("/")
sys.argv.append("changed")
"""
SLEEPER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=sys.argv[1] == "own")
print(child.pid, flush=True)
time.sleep(600)
"""
EXITS = """
import atexit, sys
atexit.register(print, "at exit")
print("to stderr", file=sys.stderr)
sys.exit(int(sys.argv[1])) if sys.argv[1:] else 1 / 0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small programs to run as modules."""
    folder = tmp_path_factory.mktemp("programs")
    for name, text in (("probe", PROBE), ("waits", SLEEPER), ("ends", EXITS)):
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[CommandServer]:
    """A server that imports only NumPy and so starts at once."""
    server = CommandServer(["numpy"], folder)
    yield server
    server.close()


def wait_until_ended(*pids: int) -> None:
    deadline = time.monotonic() + 30
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, f"some of {pids} are still running"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("run", "--help"),
        ("run", "spam"),
        ("run", "fraud", "--set", "speed=1"),
        ("nothing",),
        ("status", "--home", "HOME"),
        ("runs", "fraud", "--json", "--home", "HOME"),
    ],
)
def test_command_output_and_exit_code_equal_those_of_a_new_process(words: tuple[str, ...], tmp_path: Path) -> None:
    plant_run(tmp_path)
    words = tuple(str(tmp_path) if word == "HOME" else word for word in words)
    command = [sys.executable, "-m", "cli.main", *words]
    expected = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    result = showcase(*words)
    assert (result.returncode, result.stdout, result.stderr) == (expected.returncode, expected.stdout, expected.stderr)
    assert expected.stdout or expected.returncode == 2


def test_state_equals_a_new_process_and_does_not_leak_into_the_next(
    server: CommandServer, folder: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "SHOWCASE": "ä"}
    environment.pop("PYTEST_CURRENT_TEST")
    command = [sys.executable, "-m", "probe", "a", "b c"]
    process = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, stdin=subprocess.DEVNULL
    )
    expected = json.loads(process.stdout)
    reports = [json.loads(server.run("probe", "a", "b c", cwd=folder, env=environment).stdout) for _ in range(2)]
    for report in reports:
        assert report["parent"] == server.pid and report["session"] and report["interrupt"]
    draws = [report["draw"] for report in (*reports, expected)]
    assert len({number for draw in draws for number in draw}) == 6
    for name in set(expected) - {"parent", "session", "interrupt", "draw"}:
        assert [report[name] for report in reports] == [expected[name]] * 2, name


def test_exit_codes_equal_those_of_a_new_process(server: CommandServer, folder: Path) -> None:
    for words in (["0"], ["7"], []):
        result = server.run("ends", *words, cwd=folder)
        expected = subprocess.run([sys.executable, "-m", "ends", *words], capture_output=True, text=True, cwd=folder)
        assert (result.returncode, result.stdout) == (
            expected.returncode,
            expected.stdout,
        ) and "at exit" in result.stdout
        assert (
            result.stderr.splitlines()[0] == "to stderr"
            and result.stderr.splitlines()[-1] == expected.stderr.splitlines()[-1]
        )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_exit_code_of_a_signal_is_its_negative_number(
    server: CommandServer, folder: Path, number: signal.Signals
) -> None:
    command = server.start("waits", "same", cwd=folder, stdout=subprocess.PIPE)
    child = int(command.stdout.readline())
    assert command.poll() is None and is_alive(command.pid) and list_children(command.pid) == [child]
    command.send_signal(number)
    assert command.wait(30) == -number == command.poll()
    wait_until_ended(command.pid)
    os.kill(child, signal.SIGKILL)  # as with a new process, the child survives
    command.send_signal(number)  # nothing happens


def test_killed_command_has_the_exit_code_of_its_signal(tmp_path: Path) -> None:
    with start_showcase("tour", "--port", 0, "--home", tmp_path, stdout=subprocess.PIPE) as command:
        assert command.stdout.readline().startswith("http://")
        command.kill()
        assert command.wait(30) == -signal.SIGKILL


@pytest.mark.parametrize("session", ["same", "own"])
def test_timeout_kills_a_program_and_its_children(server: CommandServer, folder: Path, session: str) -> None:
    with pytest.raises(subprocess.TimeoutExpired) as error:
        server.run("waits", session, cwd=folder, timeout=2)
    assert list_children(server.pid) == []
    wait_until_ended(int(error.value.output))


def test_a_variable_that_is_read_at_start_is_refused(server: CommandServer, folder: Path) -> None:
    with pytest.raises(ValueError, match="PYTHONHASHSEED is read when Python starts"):
        server.run("ends", 0, cwd=folder, env={**os.environ, "PYTHONHASHSEED": "7"})


def test_close_ends_the_server_and_its_children(folder: Path) -> None:
    server = CommandServer([], folder)
    command = server.start("waits", "same", cwd=folder, stdout=subprocess.PIPE)
    child = int(command.stdout.readline())
    server.close()
    wait_until_ended(server.pid, command.pid, child)
    with pytest.raises(OSError):
        server.run("ends", 0, cwd=folder)
    command.stdout.close()


def test_server_ends_when_the_test_process_is_killed(folder: Path) -> None:
    code = f"""
        import subprocess, sys, time
        sys.path.insert(0, {str(TESTS)!r})
        from pathlib import Path
        from support.command_server import CommandServer
        server = CommandServer([], Path({str(folder)!r}))
        command = server.start("waits", "same", cwd=Path({str(folder)!r}), stdout=subprocess.PIPE)
        print(server.pid, command.pid, command.stdout.readline(), flush=True)
        time.sleep(600)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as owner:
        pids = list(map(int, owner.stdout.readline().split()))
        assert all(map(is_alive, pids)) and len(pids) == 3
        owner.kill()
    wait_until_ended(*pids)


def test_a_server_that_cannot_start_names_the_reason(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="No module named 'nowhere'"):
        CommandServer(["nowhere"], tmp_path)
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=[5]).start()\n"
    )
    with pytest.raises(RuntimeError, match="has started threads"):
        CommandServer(["threaded"], tmp_path)


def test_children_reuse_the_imported_modules(tmp_path: Path) -> None:
    """Slow imports are in the server, where TensorFlow has started no threads."""
    (tmp_path / "names.py").write_text("import sys, os; print(*sys.modules); print(len(os.listdir('/proc/self/task')))")
    names, threads = command_server().run("names", cwd=tmp_path).stdout.splitlines()
    heavy = {"tensorflow", "tfx", "keras", "apache_beam", "tensorflow_model_analysis", "tensorflow_transform"}
    assert heavy <= set(names.split()) and "cli.main" not in names.split() and int(threads) == 1
