"""The processes beside the demonstration, with stand-ins: they listen, they end, and it is said if they do not start."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from support.process import alive

from pipeline import children, rollouts
from tour.demo import serving
from tour.demo.story import Story

SERVER = """
import json, os, signal, sys
from pathlib import Path
told = {{"pid": os.getpid(), "host": "127.0.0.1", "gateway": 7, "rest": None, "grpc": None}}
Path({path!r}).write_text(json.dumps(told))
signal.signal(signal.SIGTERM, lambda *_: (os.unlink({path!r}), sys.exit(0)))
print(json.dumps({{"gateway": "http://127.0.0.1:7", "models": {{}}}}), flush=True)
signal.pause()
"""


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path, "none", True, Console())


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[list]]:
    """Has other programs started in the place of ``showcase``."""

    def use(code: str) -> list[list]:
        asked: list[list] = []

        def started(words: list, log: Path, module: str = "") -> subprocess.Popen:
            asked.append(list(words))
            command = [sys.executable, "-c", code]
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

        monkeypatch.setattr(children, "start", started)
        return asked

    return use


def test_it_serves_until_the_block_ends(story: Story, start: Callable) -> None:
    asked = start(SERVER.format(path=str(story.home / rollouts.RUNNING)))
    with serving.served(story) as place:
        assert place["gateway"] == 7 and alive(place["pid"])
    assert not alive(place["pid"]) and rollouts.running(story.home) is None
    assert asked[0][:3] == ["serve", "--home", story.home] and "--timeout" in asked[0]


def test_a_server_that_was_there_is_used_and_stays(story: Story, start: Callable) -> None:
    asked = start("raise SystemExit('never')")
    (story.home / rollouts.RUNNING).write_text(json.dumps({"pid": os.getpid(), "host": "127.0.0.1", "gateway": 9}))
    with serving.served(story) as place:
        assert place["gateway"] == 9
    assert not asked and (story.home / rollouts.RUNNING).exists()


def test_one_that_took_its_place_ends_too(story: Story, start: Callable) -> None:
    code = SERVER.format(path=str(story.home / rollouts.RUNNING))
    start(code)
    with serving.served(story) as place:
        os.kill(place["pid"], 9)
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        other.stdout.readline()
    assert other.wait(60) == 0 and not alive(place["pid"])


def test_what_does_not_start_is_said_with_its_log(story: Story, start: Callable) -> None:
    start("raise SystemExit(3)")
    with pytest.raises(OSError, match="server has ended with status 3; .*serve.log"), serving.served(story):
        pass
    with pytest.raises(OSError, match="tour has ended with status 3; .*tour.log"):
        serving.toured(story)


def test_the_tour_is_shown_until_it_ends(story: Story, start: Callable, capsys: pytest.CaptureFixture) -> None:
    asked = start("print('http://127.0.0.1:8600/ (Ctrl-C ends it)', flush=True)")
    story.console = Console()
    serving.toured(story)
    assert "http://127.0.0.1:8600/" in capsys.readouterr().out and asked[0][:3] == ["tour", "--home", story.home]


def test_a_port_that_is_taken_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert not serving.free(taken.getsockname()[1])
    assert serving.free(0)
