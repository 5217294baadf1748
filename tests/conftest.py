"""One run of the demo for all tests that look at what a real run leaves behind."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from support.command import showcase
from support.order import FIRST

from models.catalog import CASES

TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first; tests of a file stay together, in their order."""
    order = {TESTS / name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


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
    from support.tried_home import tried

    return tried(tmp_path_factory.mktemp("tried"))


@pytest.fixture(scope="module")
def tried_gateway(tried_home: Path) -> Iterator[str]:
    """Address of a gateway that serves it."""
    from support.tried_home import answering

    with answering(tried_home) as address:
        yield address


@pytest.fixture(scope="module")
def served_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models: ``half`` in three versions, and one with every kind of signature."""
    from support.served_models import doors, half_plus

    base = tmp_path_factory.mktemp("models")
    for version, add in ((1, 1.0), (2, 2.0), (3, 3.0)):
        half_plus(base / "half" / str(version), add)
    doors(base / "doors" / "1")
    return base


@pytest.fixture(scope="module")
def client(served_folder: Path) -> Iterator[Any]:
    """A client of a model server with both."""
    from support.served_client import MAX_BODY, Client
    from support.served_models import POLL, serving

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
    from support.served_models import half_plus

    base = tmp_path_factory.mktemp("made")
    for version in (1, 2, 3):
        half_plus(base / str(version), float(version))
    return base


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """The HTTP layer over a handler that tells what arrived."""
    from support.http_server import listening

    with listening() as running:
        yield running
