"""The child processes of the demonstration: they end with it, and a failed start is reported with its log."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from support.process import is_alive

from pipeline.online import rollouts
from tour.demo import servers
from tour.demo.report import DemoReport

pytestmark = pytest.mark.system

SERVER = """
import json, os, signal, sys
place = {{"pid": os.getpid(), "host": "127.0.0.1", "gateway": 7, "rest": None, "grpc": None}}
with open({path!r}, "w") as file:
    json.dump(place, file)
signal.signal(signal.SIGTERM, lambda *_: (os.unlink({path!r}), sys.exit(0)))
print(json.dumps({{"gateway": "http://127.0.0.1:7", "models": {{}}}}), flush=True)
signal.pause()
"""


class Starter:
    """Starts another program in place of ``showcase`` and records the arguments."""

    def __init__(self, code: str) -> None:
        self.code, self.commands = code, []

    def __call__(self, words: list[object], log: Path) -> subprocess.Popen[str]:
        self.commands.append(list(words))
        command = [sys.executable, "-S", "-c", self.code]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


@pytest.fixture
def report() -> DemoReport:
    return DemoReport(Console())


@pytest.fixture
def server_code(tmp_path: Path) -> str:
    return SERVER.format(path=str(tmp_path / rollouts.SERVER_RECORD_FILE))


def test_models_are_served_until_the_block_ends(
    tmp_path: Path, report: DemoReport, server_code: str, capsys: pytest.CaptureFixture
) -> None:
    start = Starter(server_code)
    with servers.serve_models(tmp_path, report, start) as place:
        assert place["gateway"] == 7 and is_alive(place["pid"])
    assert not is_alive(place["pid"]) and rollouts.find_running_server(tmp_path) is None
    assert start.commands[0][:3] == ["serve", "--home", tmp_path] and "--timeout" in start.commands[0]
    assert "http://127.0.0.1:7" in capsys.readouterr().out


def test_running_server_is_used_and_not_ended(tmp_path: Path, report: DemoReport) -> None:
    start = Starter("raise SystemExit('never')")
    (tmp_path / rollouts.SERVER_RECORD_FILE).write_text(
        json.dumps({"pid": os.getpid(), "host": "127.0.0.1", "gateway": 9})
    )
    with servers.serve_models(tmp_path, report, start) as place:
        assert place["gateway"] == 9
    assert not start.commands and (tmp_path / rollouts.SERVER_RECORD_FILE).exists()


def test_server_that_replaced_the_child_is_ended(tmp_path: Path, report: DemoReport, server_code: str) -> None:
    start = Starter(server_code)
    with servers.serve_models(tmp_path, report, start) as place:
        os.kill(place["pid"], 9)
        replacement = start([], tmp_path / "log")
        replacement.stdout.readline()
    assert replacement.wait(60) == 0 and not is_alive(place["pid"])


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda *arguments: servers.serve_models(*arguments).__enter__(), "server ended with exit code 3; .*serve.log"),
        (servers.show_tour, "tour ended with exit code 3; .*tour.log"),
    ],
)
def test_failed_start_is_reported_with_its_log(
    tmp_path: Path, report: DemoReport, run: Callable[..., object], message: str
) -> None:
    with pytest.raises(OSError, match=message):
        run(tmp_path, report, Starter("raise SystemExit(3)"))


def test_closing_lines_are_a_row_for_each_server_the_tour_first(
    tmp_path: Path, report: DemoReport, server_code: str, capsys: pytest.CaptureFixture
) -> None:
    start = Starter("print('http://127.0.0.1:8600/ (Ctrl-C ends it)', flush=True)")
    with servers.serve_models(tmp_path, report, Starter(server_code)):
        servers.show_tour(tmp_path, report, start)
    *_, tour, gateway = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert tour == ["tour", "http://127.0.0.1:8600/"] and gateway[:2] == ["gateway", "http://127.0.0.1:7"]
    assert start.commands[0][:3] == ["tour", "--home", tmp_path]


def test_servers_and_tour_listen_on_the_given_address(tmp_path: Path, report: DemoReport, server_code: str) -> None:
    start = Starter(server_code)
    with servers.serve_models(tmp_path, report, start, host="0.0.0.0"):
        pass
    servers.show_tour(tmp_path, report, tour := Starter("print('http://name:8600/', flush=True)"), host="0.0.0.0")
    for command in (*start.commands, *tour.commands):
        assert command[command.index("--host") + 1] == "0.0.0.0"


def press_ctrl_c(timeout: float | None) -> float:
    """Interrupt a process that waits for its child without a limit."""
    if timeout is None:
        raise KeyboardInterrupt
    return timeout


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_taken_port_is_replaced_by_port_0(host: str) -> None:
    with socket.create_server((host, 0)) as taken:
        port = taken.getsockname()[1]
        assert servers.choose_port(port, host) == 0
    assert servers.choose_port(port, host) == port


def test_default_port_in_use_is_named_beside_the_one_that_replaces_it(
    tmp_path: Path, report: DemoReport, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """With the real tour, which has to listen on the port that it is given."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(servers, "TOUR_PORT", port)
        monkeypatch.setitem(servers.PREFERRED, "tour", port)
        wait = subprocess.Popen.wait
        monkeypatch.setattr(subprocess.Popen, "wait", lambda child, timeout=None: wait(child, press_ctrl_c(timeout)))
        servers.show_tour(tmp_path, report)
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("tour ")]
    assert row.endswith(f"port {port} is in use")
    assert str(port) not in row.split()[1] and row.split()[1].startswith("http://127.0.0.1:")
