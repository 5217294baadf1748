"""Detection of tests that start something and need the mark ``system``, which `make check` skips."""

import socket
import subprocess
import sys

import pytest
from support.system_tests import record_events


@pytest.mark.system
def test_processes_and_ports_are_recorded() -> None:
    with record_events() as events:
        subprocess.run([sys.executable, "-c", ""], check=True)
        with socket.create_server(("127.0.0.1", 0)):
            pass
    assert events == {"started a process", "opened a port"}


@pytest.mark.system
def test_only_the_innermost_recording_is_active() -> None:
    with record_events() as outer:
        with record_events() as inner, socket.create_server(("127.0.0.1", 0)):
            pass
        assert inner == {"opened a port"} and not outer


def test_nothing_is_recorded_if_nothing_starts() -> None:
    with record_events() as events:
        sorted(range(3))
    assert not events
