"""Child processes of a command."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.command import ROOT
from support.process import is_alive


@pytest.mark.system
def test_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """The child is a sleeping program in place of ``showcase``."""
    code = (
        "import time; from pathlib import Path; from pipeline.local import processes\n"
        f"print(processes.launch(['sleep', '600'], Path({str(tmp_path / 'log')!r})).pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    child = int(parent.stdout.readline())
    assert is_alive(child)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)
