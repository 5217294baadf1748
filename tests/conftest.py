"""One run of the demo for all tests that look at what a real run leaves behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def showcase(*words: object, timeout: float = 600) -> subprocess.CompletedProcess:
    """The command line in a process of its own, as a person has it."""
    command = [sys.executable, "-m", "pipeline.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Home and summary of one `showcase demo --headless`, everything from nothing."""
    home = tmp_path_factory.mktemp("demo")
    done = showcase("demo", "--headless", "--home", home)
    assert done.returncode == 0, done.stdout + done.stderr
    return home, json.loads(done.stdout)


@pytest.fixture(scope="session")
def demo_home(demo: tuple[Path, dict]) -> Path:
    """Home of the demo's run, with every case pushed. To be read only."""
    return demo[0]
