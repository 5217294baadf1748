"""Requests from a child process while a model is trained, and the record of the days that were sent."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from support.scripted_demo import report_traffic

from models.catalog import find_use_case
from tour.demo import demo_traffic
from tour.demo.collaborators import Collaborators
from tour.demo.playthrough import Playthrough
from tour.demo.report import DemoReport

pytestmark = pytest.mark.system

SCENARIO = SimpleNamespace(folder=Path("spans"), later=range(44, 52))
SENDS = f"""
import json, signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print(json.dumps({report_traffic()!r})), sys.exit(0)))
print("ready", file=sys.stderr, flush=True)
signal.pause()
"""
FAILS = "import sys; print('ready', file=sys.stderr, flush=True); sys.exit(3)"


@pytest.fixture
def start_play(tmp_path: Path) -> Callable[[str], tuple[Playthrough, list[list[object]]]]:
    """Make a playthrough that starts another program in place of ``showcase`` and records the arguments."""

    def start(code: str) -> tuple[Playthrough, list[list[object]]]:
        commands = []

        def start_process(words: list[object], log: Path) -> subprocess.Popen[str]:
            commands.append(words)
            command = [sys.executable, "-S", "-c", code]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            child.stderr.readline()
            return child

        collaborators = Collaborators(run_pipeline=pytest.fail, start_process=start_process)
        return Playthrough(tmp_path, DemoReport(Console()), collaborators=collaborators), commands

    return start


def test_requests_are_sent_until_the_child_is_ended(start_play: Callable) -> None:
    play, commands = start_play(SENDS)
    with demo_traffic.keep_sending(play, find_use_case("fraud"), SCENARIO) as child:
        assert child.poll() is None
        assert demo_traffic.finish_sending(play, find_use_case("fraud"), child)
    assert child.returncode == 0 and play.report.summary["traffic"]["fraud"]["sent"] == 7
    assert commands[0][:4] == ["traffic", "fraud", "--home", play.home] and "44:51" in commands[0]


def test_child_is_ended_if_the_block_raises(start_play: Callable) -> None:
    play, _ = start_play(SENDS)
    with pytest.raises(KeyboardInterrupt), demo_traffic.keep_sending(play, find_use_case("fraud"), SCENARIO) as child:
        raise KeyboardInterrupt
    assert child.returncode == 0


def test_failed_child_is_reported_with_its_log(start_play: Callable, capsys: pytest.CaptureFixture) -> None:
    play, _ = start_play(FAILS)
    with demo_traffic.keep_sending(play, find_use_case("fraud"), SCENARIO) as child:
        child.wait()
        assert not demo_traffic.finish_sending(play, find_use_case("fraud"), child)
    printed = capsys.readouterr().out
    assert "exit code 3" in printed and "traffic.log" in printed


def test_second_attempt_sends_later_days(start_play: Callable) -> None:
    play, commands = start_play(SENDS)
    for _ in range(2):
        with demo_traffic.keep_sending(play, find_use_case("fraud"), SCENARIO):
            pass
    assert "44:51" in commands[0] and "45:51" in commands[1]


def test_last_day_is_recorded_for_each_use_case(tmp_path: Path) -> None:
    fraud, image = find_use_case("fraud"), find_use_case("image")
    assert demo_traffic.read_last_day(tmp_path, fraud) == -1
    demo_traffic.write_last_day(tmp_path, fraud, 12)
    demo_traffic.write_last_day(tmp_path, image, 3)
    assert (demo_traffic.read_last_day(tmp_path, fraud), demo_traffic.read_last_day(tmp_path, image)) == (12, 3)
