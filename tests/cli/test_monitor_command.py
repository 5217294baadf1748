"""`showcase monitor --watch` in a pod: it continues after temporary errors and ends on SIGTERM."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.command import ROOT

from cli import monitor_command
from pipeline.monitoring import collected_spans, retraining_loop


def test_retraining_without_labels_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class StopLoopError(Exception):
        """Ends the loop of the monitor."""

    failures: list[Exception] = [collected_spans.NoLabelsError("no label has arrived")] * 3 + [StopLoopError()]

    def fail(*_: Any) -> None:
        raise failures.pop(0)

    monkeypatch.setattr(retraining_loop, "run_monitor_once", fail)
    with pytest.raises(StopLoopError):
        monitor_command.run_monitor("fraud", tmp_path, {}, True, 0.0, False)
    assert not failures and capsys.readouterr().out.count("no label has arrived") == 1


@pytest.mark.system
def test_sigterm_interrupts_a_monitor(tmp_path: Path) -> None:
    """The first process of a container must handle the signal: the kernel's default action is not taken there."""
    command = [sys.executable, "-m", "cli.main", "monitor", "fraud", "--watch", "--home", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout and "is pushed" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) > 0
