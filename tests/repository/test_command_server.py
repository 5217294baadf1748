"""The server that forks commands for tests: a command behaves as a process of its own, and nothing stays behind."""

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
from support.planted_home import planted
from support.process import alive, children

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
os.environ["LEFT"] = "behind"
warnings.simplefilter("error")
logging.basicConfig(level=logging.DEBUG)
os.chdir("/")
sys.argv.append("left")
"""
WAITS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=sys.argv[1] == "own")
print(child.pid, flush=True)
time.sleep(600)
"""
ENDS = """
import atexit, sys
atexit.register(print, "at exit")
print("to stderr", file=sys.stderr)
sys.exit(int(sys.argv[1])) if sys.argv[1:] else 1 / 0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small programs, to be run as modules."""
    folder = tmp_path_factory.mktemp("programs")
    for name, text in (("probe", PROBE), ("waits", WAITS), ("ends", ENDS)):
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[CommandServer]:
    """A server that has imported NumPy only, which starts at once."""
    server = CommandServer(["numpy"], folder)
    yield server
    server.close()


def until_ended(*pids: int) -> None:
    deadline = time.monotonic() + 30
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, f"some of {pids} are still there"
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
def test_a_command_has_the_output_and_exit_code_of_a_process_of_its_own(words: tuple[str, ...], tmp_path: Path) -> None:
    planted(tmp_path)
    words = tuple(str(tmp_path) if word == "HOME" else word for word in words)
    command = [sys.executable, "-m", "cli.main", *words]
    expected = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    done = showcase(*words)
    assert (done.returncode, done.stdout, done.stderr) == (expected.returncode, expected.stdout, expected.stderr)
    assert expected.stdout or expected.returncode == 2


def test_a_program_sees_what_a_new_process_sees_and_changes_nothing_for_the_next(
    server: CommandServer, folder: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "SHOWCASE": "ä"}
    environment.pop("PYTEST_CURRENT_TEST")
    command = [sys.executable, "-m", "probe", "a", "b c"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, stdin=subprocess.DEVNULL
    )
    expected = json.loads(done.stdout)
    found = [json.loads(server.run("probe", "a", "b c", cwd=folder, env=environment).stdout) for _ in range(2)]
    for one in found:
        assert one["parent"] == server.pid and one["session"] and one["interrupt"]
    draws = [one["draw"] for one in (*found, expected)]
    assert len({number for draw in draws for number in draw}) == 6
    for name in set(expected) - {"parent", "session", "interrupt", "draw"}:
        assert [one[name] for one in found] == [expected[name]] * 2, name


def test_exit_codes_are_those_of_a_process_of_its_own(server: CommandServer, folder: Path) -> None:
    for words in (["0"], ["7"], []):
        done = server.run("ends", *words, cwd=folder)
        expected = subprocess.run([sys.executable, "-m", "ends", *words], capture_output=True, text=True, cwd=folder)
        assert (done.returncode, done.stdout) == (expected.returncode, expected.stdout) and "at exit" in done.stdout
        assert (
            done.stderr.splitlines()[0] == "to stderr"
            and done.stderr.splitlines()[-1] == expected.stderr.splitlines()[-1]
        )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_program_with_its_number(server: CommandServer, folder: Path, number: signal.Signals) -> None:
    command = server.start("waits", "same", cwd=folder, stdout=subprocess.PIPE)
    child = int(command.stdout.readline())
    assert command.poll() is None and alive(command.pid) and children(command.pid) == [child]
    command.send_signal(number)
    assert command.wait(30) == -number == command.poll()
    until_ended(command.pid)
    os.kill(child, signal.SIGKILL)  # as with a process of its own, it stays
    command.send_signal(number)  # nothing happens


def test_a_killed_command_has_the_exit_code_of_its_signal(tmp_path: Path) -> None:
    with start_showcase("tour", "--port", 0, "--home", tmp_path, stdout=subprocess.PIPE) as command:
        assert command.stdout.readline().startswith("http://")
        command.kill()
        assert command.wait(30) == -signal.SIGKILL


@pytest.mark.parametrize("session", ["same", "own"])
def test_a_program_that_takes_too_long_is_killed_with_its_children(
    server: CommandServer, folder: Path, session: str
) -> None:
    with pytest.raises(subprocess.TimeoutExpired) as error:
        server.run("waits", session, cwd=folder, timeout=2)
    assert children(server.pid) == []
    until_ended(int(error.value.output))


def test_a_variable_that_is_read_at_start_is_refused(server: CommandServer, folder: Path) -> None:
    with pytest.raises(ValueError, match="PYTHONHASHSEED is read when Python starts"):
        server.run("ends", 0, cwd=folder, env={**os.environ, "PYTHONHASHSEED": "7"})


def test_closing_the_server_ends_it_and_what_it_runs(folder: Path) -> None:
    server = CommandServer([], folder)
    command = server.start("waits", "same", cwd=folder, stdout=subprocess.PIPE)
    child = int(command.stdout.readline())
    server.close()
    until_ended(server.pid, command.pid, child)
    with pytest.raises(OSError):
        server.run("ends", 0, cwd=folder)
    command.stdout.close()


def test_the_server_ends_when_the_process_of_the_tests_is_killed(folder: Path) -> None:
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
        assert all(map(alive, pids)) and len(pids) == 3
        owner.kill()
    until_ended(*pids)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="No module named 'nowhere'"):
        CommandServer(["nowhere"], tmp_path)
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=[5]).start()\n"
    )
    with pytest.raises(RuntimeError, match="has started threads"):
        CommandServer(["threaded"], tmp_path)


def test_nothing_that_was_imported_is_imported_again(tmp_path: Path) -> None:
    """What costs seconds is in the server, and TensorFlow in it has made no threads."""
    (tmp_path / "names.py").write_text("import sys, os; print(*sys.modules); print(len(os.listdir('/proc/self/task')))")
    names, threads = command_server().run("names", cwd=tmp_path).stdout.splitlines()
    heavy = {"tensorflow", "tfx", "keras", "apache_beam", "tensorflow_model_analysis", "tensorflow_transform"}
    assert heavy <= set(names.split()) and "cli.main" not in names.split() and int(threads) == 1
