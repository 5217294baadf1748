"""One run of the demo for all tests that look at what a real run leaves behind."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from models.catalog import CASES

ROOT = Path(__file__).parent.parent
# Files that take minutes, so that none of them begins when the other processes are through. The first one needs no run of the
# demo, which the second meanwhile makes for all.
FIRST = (
    "test_drift_loop", "test_demo", "test_evidence_changes", "test_rehearsal", "test_incidents", "test_resume", "test_runners",
    "test_end_to_end", "test_cluster", "test_edge", "test_browser", "test_tuning", "test_adapters", "test_manifest_commands",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first; tests of a file stay together, in their order."""
    items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))


def showcase(*words: object, timeout: float = 1200) -> subprocess.CompletedProcess:
    """The command line in a process of its own, as a person has it."""
    command = [sys.executable, "-m", "pipeline.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> tuple[Path, dict]:
    """Home and runs of every case's pipeline, as the demo begins with, from nothing; one for all processes of the tests."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    home, summary = shared / "demo", shared / "demo.json"
    with FileLock(shared / "demo.lock"):
        if not summary.exists():
            runs = [showcase("run", case, "--home", home, "--json") for case in CASES]
            assert not any(done.returncode for done in runs), "".join(done.stdout + done.stderr for done in runs)
            summary.write_text(json.dumps({"runs": [json.loads(done.stdout) for done in runs]}))
    return home, json.loads(summary.read_text())


@pytest.fixture(scope="session")
def demo_home(demo: tuple[Path, dict]) -> Path:
    """Home of the demo's run, with every case pushed. To be read only."""
    return demo[0]


@pytest.fixture(scope="module")
def tried_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the Try page looks at: a home with small models of both cases."""
    from tried_home import tried

    return tried(tmp_path_factory.mktemp("tried"))


@pytest.fixture(scope="module")
def tried_gateway(tried_home: Path) -> Iterator[str]:
    """Address of a gateway that serves it."""
    from tried_home import answering

    with answering(tried_home) as address:
        yield address


@pytest.fixture(scope="module")
def served_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models: ``half`` in three versions, and one with every kind of signature."""
    from served_models import doors, half_plus

    base = tmp_path_factory.mktemp("models")
    for version, add in ((1, 1.0), (2, 2.0), (3, 3.0)):
        half_plus(base / "half" / str(version), add)
    doors(base / "doors" / "1")
    return base


@pytest.fixture(scope="module")
def client(served_folder: Path) -> Iterator[Any]:
    """A client of a model server with both."""
    from served_client import MAX_BODY, Client
    from served_models import POLL, serving

    from serving.server.app import Options
    from serving.server.config import Model

    models = [
        Model("half", str(served_folder / "half"), "specific", specific=(1, 2), labels={"stable": 1, "canary": 2}),
        Model("doors", str(served_folder / "doors")),
    ]
    with serving(Options(models, grpc_port=0, rest_port=0, poll=POLL, max_body=MAX_BODY)) as app:
        client = Client(app)
        yield client
        client.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions to be copied: number n adds n."""
    from served_models import half_plus

    base = tmp_path_factory.mktemp("made")
    for version in (1, 2, 3):
        half_plus(base / str(version), float(version))
    return base


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """The HTTP layer over a handler that tells what arrived."""
    from http_server import listening

    with listening() as running:
        yield running
