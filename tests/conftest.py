"""One run of the demo for all tests that look at what a real run leaves behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parent.parent


def showcase(*words: object, timeout: float = 1200) -> subprocess.CompletedProcess:
    """The command line in a process of its own, as a person has it."""
    command = [sys.executable, "-m", "pipeline.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> tuple[Path, dict]:
    """Home and summary of one `showcase demo --headless`, everything from nothing; one for all processes of the tests."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    home, summary = shared / "demo", shared / "demo.json"
    with FileLock(shared / "demo.lock"):
        if not summary.exists():
            done = showcase("demo", "--headless", "--home", home)
            assert done.returncode == 0, done.stdout + done.stderr
            summary.write_text(done.stdout)
    return home, json.loads(summary.read_text())


@pytest.fixture(scope="session")
def demo_home(demo: tuple[Path, dict]) -> Path:
    """Home of the demo's run, with every case pushed. To be read only."""
    return demo[0]
