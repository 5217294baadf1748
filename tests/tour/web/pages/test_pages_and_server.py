"""Every page of the tour over a metadata server: the same as over a file, and an error while it is unavailable."""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.evidence_worker import ANSWERS, write_worker
from support.shown_home import MONITORING_RUN, RUN
from support.stored_home import Homes, plant_homes, reserve_closed_port, run_store_server
from support.tour_server import run_tour
from support.tried_home import create_tensor_process

from pipeline.metadata import store_address
from tour.incidents.incident import IncidentEvent, LiveSystem, StagedIncident
from tour.logbook import LoggedPrediction
from tour.web import trial
from tour.web.application import create_app
from tour.web.pages import stage

pytestmark = pytest.mark.system

# One URL or more for each route; {prediction} and {decision} are replaced by ids of the home.
NEEDS_STORE = {
    "GET /stages": ("/stages",),
    "GET /stage/{case}/{node}": ("/stage/fraud/Trainer", f"/stage/fraud/Pusher?run={RUN}", "/stage/fraud/Nothing"),
    "GET /stages/{case}/{node}": (f"/stages/fraud/Decide?run={MONITORING_RUN}", "/stages/image/Trainer"),
    "GET /figure/{case}/{run}/learnt": (f"/figure/fraud/{RUN}/learnt",),
    "GET /report/{case}/{artifact}": ("/report/fraud/{decision}", "/report/fraud/1"),
    "GET /lineage": ("/lineage",),
    "GET /lineage/find": ("/lineage/find?id={prediction}",),
    "GET /lineage/prediction/{identity}": ("/lineage/prediction/{prediction}",),
    "GET /lineage/span/{case}/{source}/{span}": ("/lineage/span/fraud/0/1", "/lineage/span/fraud/7/1"),
    "GET /lineage/artifact/{artifact}": ("/lineage/artifact/{decision}", "/lineage/artifact/999"),
    "GET /try": ("/try",),
    "GET /try/{case}": ("/try/image",),
    "POST /try/{case}/lite": ("/try/fraud/lite",),
}
NEEDS_NO_STORE = {
    "GET /": ("/",),
    "GET /events": ("/events",),
    "GET /healthz": ("/healthz",),
    "GET /questions": ("/questions?q=pca",),
    "GET /rehearse": ("/rehearse",),
    "GET /questions/{id_}": ("/questions/A15",),
    "GET /questions/{id_}/card": ("/questions/A15/card",),
    "POST /questions/{id_}/evidence": ("/questions/A15/evidence",),
    "GET /questions/{id_}/events": ("/questions/A15/events",),
    "POST /questions/{id_}/evidence/stop": ("/questions/A15/evidence/stop",),
    "GET /presenter": ("/presenter",),
    "GET /break": ("/break",),
    "POST /break/{name}": ("/break/quick",),
    "POST /try/{case}/score": ("/try/fraud/score",),
    "GET /cases/{name}/model.tflite": ("/cases/fraud@2/model.tflite",),
    "GET /litert/{path}": ("/litert/nothing.js",),
    "GET /board.js": ("/board.js",),
    "GET /model.js": ("/model.js",),
}
ALL_URLS = [(route.split()[0], url) for route, urls in (NEEDS_STORE | NEEDS_NO_STORE).items() for url in urls]


class TourClient:
    """HTTP client of the tour of one home."""

    def __init__(self, planted: Homes, home: Path, address: str) -> None:
        self._planted, self._home, self._address = planted, home, address

    def request(self, method: str, url: str) -> tuple[int, str]:
        """Request a page; return the status and the text without ids, times and paths."""
        ids = {"prediction": self._planted.ids[self._home][1], "decision": self._planted.decision}
        url = url.format(**ids)
        body = {"json": {"prediction_id": ids["prediction"]}} if method == "POST" else {}
        with httpx.Client(base_url=self._address, timeout=60, trust_env=False) as client:
            if url == "/events":
                with client.stream(method, url) as answer:
                    return answer.status_code, self._plain(next(answer.iter_lines()))
            answer = client.request(method, url, headers={"accept": "text/html"}, **body)
            return answer.status_code, self._plain(answer.text)

    def _plain(self, text: str) -> str:
        text = self._planted.plain(text)
        for number, prediction_id in enumerate(self._planted.ids[self._home]):
            text = text.replace(prediction_id, f"PREDICTION{number}")
        text = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d|\b\d\d:\d\d:\d\d\b", "TIME", text)
        return re.sub(r"\b\d+\.\d+ s\b|\"microseconds\":[\d.]+", "N s", text)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homes]:
    with plant_homes(tmp_path_factory.mktemp("homes")) as homes:
        yield homes


def break_quickly(live: LiveSystem) -> Iterator[IncidentEvent]:
    yield IncidentEvent("It is broken.", "bad")


async def read_fake_graph(home: Path, case: str, run: str, path: Path) -> str:
    """Fake of the process that reads a transform graph."""
    return json.dumps([{"kind": "Table", "title": run, "columns": ["a"], "rows": [[1]], "svg": ""}])


def compare_fake(
    logged: LoggedPrediction, inputs: Any, model: Path, facts: Any, tolerance: float
) -> trial.PredictionComparison:
    """Fake of LiteRT."""
    return trial.PredictionComparison(logged.version, inputs, {}, {}, len(model.read_bytes()), tolerance, ())


def build_app(home: Path, folder: Path) -> Any:
    """Create the application with fakes of the programs that need TensorFlow."""
    app = create_app(home)
    app.state.incidents = {
        "quick": StagedIncident("quick", "Quick", "Breaks it.", "Repairs it.", break_quickly, break_quickly)
    }
    app.state.lite_comparer = create_tensor_process(home, {})
    folder.mkdir(exist_ok=True)
    app.state.prover.worker.command = write_worker(folder, ANSWERS.replace("os.getpid()", "1"))
    return app


@pytest.fixture(scope="module")
def tours(planted: Homes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, TourClient]]:
    """Clients of the tours of all homes, by the home's name."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "_read_transform_graph", read_fake_graph)
        patch.setattr(trial, "_compare_outputs", compare_fake)
        folder = tmp_path_factory.mktemp("workers")
        yield {
            home.name: TourClient(planted, home, stack.enter_context(run_tour(build_app(home, folder / home.name))))
            for home in (planted.file, planted.grpc, planted.gone)
        }


def test_every_route_is_tested(planted: Homes) -> None:
    paths = create_app(planted.file).openapi()["paths"]
    assert {
        f"{method.upper()} {path}" for path, methods in paths.items() for method in methods
    } == NEEDS_STORE.keys() | NEEDS_NO_STORE.keys()


@pytest.mark.parametrize(("method", "url"), ALL_URLS)
def test_page_over_a_server_equals_the_page_over_a_file(tours: dict[str, TourClient], method: str, url: str) -> None:
    file, grpc = tours["file"].request(method, url), tours["grpc"].request(method, url)
    assert grpc == file
    assert file[0] < 500 or url == "/try/fraud/score"  # there is no gateway


@pytest.mark.parametrize("url", [urls[0] for urls in NEEDS_STORE.values()])
def test_page_that_needs_the_store_reports_that_it_is_unavailable(
    planted: Homes, tours: dict[str, TourClient], url: str
) -> None:
    method = next(method for method, other in ALL_URLS if other == url)
    status, text = tours["gone"].request(method, url)
    assert status == 503 and f"grpc://127.0.0.1:{planted.port} does not answer: Connection refused. Start it" in text


EVIDENCE = '<section class="card" id="evidence"'


@pytest.mark.parametrize("url", [urls[0] for urls in NEEDS_NO_STORE.values()])
def test_page_that_needs_no_store_is_unchanged_without_it(tours: dict[str, TourClient], url: str) -> None:
    method = next(method for method, other in ALL_URLS if other == url)
    (status, text), (file_status, page) = tours["gone"].request(method, url), tours["file"].request(method, url)
    assert status == file_status and "Internal Server Error" not in text
    if url == "/":
        assert "The stores cannot be read: The metadata store at grpc://" in text and "No run yet" not in text
    elif url != "/events":
        # Evidence that another test has requested may be shown.
        assert text.partition(EVIDENCE)[0] == page.partition(EVIDENCE)[0]


def test_pages_recover_with_the_store(planted: Homes, tmp_path: Path) -> None:
    home, store = tmp_path / "back", tmp_path / "served.sqlite"
    shutil.copytree(planted.gone, home)
    shutil.copy(planted.file / "metadata.sqlite", store)
    with reserve_closed_port() as port:
        store_address.write_server_address(home, f"grpc://127.0.0.1:{port}")
    planted.ids[home] = planted.ids[planted.file]
    with run_tour(build_app(home, tmp_path / "worker")) as address:
        tour = TourClient(planted, home, address)
        assert [tour.request("GET", url)[0] for url in ("/", "/stages", "/lineage")] == [200, 503, 503]
        with run_store_server(store, port):
            assert [tour.request("GET", url)[0] for url in ("/stages", "/lineage")] == [200, 200]
            wait_for(lambda: "Run <code>" in tour.request("GET", "/")[1], "the System page does not show the run")
        assert tour.request("GET", "/stages")[0] == 503
        wait_for(
            lambda: "does not answer" in tour.request("GET", "/")[1],
            "the System page does not say that the store is gone",
        )
        assert "Run <code>" in tour.request("GET", "/")[1]  # the last state is still shown


def wait_for(condition: Callable[[], bool], failure: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, failure
        time.sleep(0.2)
