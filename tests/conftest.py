"""Order of the test files, and the fixtures that several folders of tests share."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.order import FIRST_FILES
from support.system_tests import FIXTURES, record_events

TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the tests of a file stay together, in their order."""
    order = {TESTS / name: number for number, name in enumerate(FIRST_FILES)}
    items.sort(key=lambda item: order.get(item.path, len(order)))
    for item in items:
        if FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.system)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test whose fixtures do what only a system test may do."""
    return (yield from check_events(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test that does what only a system test may do."""
    return (yield from check_events(item))


def check_events(item: pytest.Item) -> Generator[None, Any, Any]:
    """Run one phase of a test and check what it started."""
    with record_events() as events:
        result = yield
    if events and not any(item.get_closest_marker(name) for name in ("system", "slow")):
        pytest.fail(f"This test {' and '.join(sorted(events))}: give it the mark `system`.")
    return result


def pytest_unconfigure() -> None:
    """End the process that forks commands, as processor time is counted only for processes that were waited for."""
    from support.command import close_command_server

    close_command_server()


@pytest.fixture(scope="session")
def pushed_home(pytestconfig: pytest.Config) -> Iterator[Path]:
    """A home with a small pushed run of every case, which tests only read."""
    yield from yield_unchanged_home(pytestconfig, "pushed", small=True)


@pytest.fixture(scope="session")
def default_home(pytestconfig: pytest.Config) -> Iterator[Path]:
    """A home with a pushed run of every case with default settings, for tests of metrics, which tests only read."""
    yield from yield_unchanged_home(pytestconfig, "default", small=False)


def yield_unchanged_home(config: pytest.Config, name: str, small: bool) -> Iterator[Path]:
    """Yield a home from the cache; fail if a test has changed it."""
    from support.pushed_home import DEFAULT_RUNS, SMALL_RUNS, cached_home, changed_files

    home = cached_home(config.cache.mkdir("homes"), name, SMALL_RUNS if small else DEFAULT_RUNS)
    yield home
    assert not (changed := changed_files(home)), f"Tests changed {changed} in a home that all tests share."


@pytest.fixture(scope="module")
def tried_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home for the Try page with small models of both cases."""
    from support.tried_home import plant_tried_home

    return plant_tried_home(tmp_path_factory.mktemp("tried"))


@pytest.fixture(scope="module")
def tried_gateway(tried_home: Path) -> Iterator[str]:
    """Address of a gateway that serves ``tried_home``."""
    from support.tried_home import run_gateway

    with run_gateway(tried_home) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, driven by Playwright; asyncio.run fails while it runs, so a fixture with asyncio.run comes first."""
    from support.programs import needs

    from serving.browser import chromium

    needs(*chromium.PROGRAMS)
    with chromium.start() as started:
        yield started


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A new page with storage of its own."""
    with browser.new_page(viewport={"width": 1100, "height": 900}) as opened:
        yield opened


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Any]:
    """An S3 server in this process."""
    from support.s3_server import S3Server

    server = S3Server()
    yield server
    server.close()


@pytest.fixture
def bucket_home(s3_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of a folder in an empty bucket; the client's environment is set, and working copies are in a folder of the test."""
    for name, value in {**s3_server.environment, "SHOWCASE_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.make_bucket()}/home"


@pytest.fixture(scope="session")
def drift_profile() -> Any:
    """Reference profile of the generated days of ``support.drift_case``."""
    from support.drift_case import fit_reference_profile

    return fit_reference_profile()


@pytest.fixture(scope="module")
def served_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with small models: ``half`` in three versions, and ``signatures`` with every type of signature.

    Each has a ``model.tflite`` with the default signature, which a server may prefer.
    """
    from support.served_models import HalfPlus, SignaturesModule, export_half_plus, export_signatures, write_lite

    base = tmp_path_factory.mktemp("models")
    for version, add in ((1, 1.0), (2, 2.0), (3, 3.0)):
        write_lite(export_half_plus(base / "half" / str(version), add), HalfPlus(add))
    write_lite(export_signatures(base / "signatures" / "1"), SignaturesModule())
    return base


@pytest.fixture(scope="module", params=[False, True], ids=["SavedModel", "LiteRT"])
def client(served_folder: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Client of a model server with both models, whose default signatures the SavedModel answers, and LiteRT."""
    from support.served_client import MAX_BODY, ModelServerClient
    from support.served_models import POLL, run_model_server

    from serving.server.app import ServerOptions
    from serving.server.config import ModelConfig

    models = [
        ModelConfig(
            "half", str(served_folder / "half"), "specific", specific=(1, 2), labels={"stable": 1, "canary": 2}
        ),
        ModelConfig("signatures", str(served_folder / "signatures")),
    ]
    options = ServerOptions(models, grpc_port=0, rest_port=0, poll=POLL, max_body=MAX_BODY, prefer_lite=request.param)
    with run_model_server(options) as app:
        call = app.engine.servable("half", 1).signatures["serving_default"].call
        assert call.__module__.endswith("litert_signatures") == request.param
        client = ModelServerClient(app)
        yield client
        client.close()


@pytest.fixture(scope="module")
def version_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of model versions to copy; version n adds n."""
    from support.served_models import export_half_plus

    base = tmp_path_factory.mktemp("made")
    for version in (1, 2, 3):
        export_half_plus(base / str(version), float(version))
    return base


@pytest.fixture(scope="module")
def signatures_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a version with every type of signature, to copy."""
    from support.served_models import export_signatures

    return export_signatures(tmp_path_factory.mktemp("signatures") / "1")


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """The HTTP layer over a handler that echoes requests."""
    from support.http_server import run_http_server

    with run_http_server() as running:
        yield running
