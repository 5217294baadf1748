"""Lineage from a prediction back to its data and from a span forward, over planted stores and a real log."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page
from support.browser import read_errors, requests_only, wait_until
from support.gateway_case import read_logged_rows
from support.shown_home import HOSTILE, RUN, STAGES, plant_artifacts, plant_home, plant_monitoring_run, score_purchases
from support.shown_kinds import TagParser
from support.tour_server import run_tour

from pipeline.home import Home
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from pipeline.run import Run
from tour import lineage, logbook, trace
from tour.logbook import PredictionLogReader
from tour.web.application import create_app
from tour.web.pages import lineage_pages as pages


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant_monitoring_run(plant_home(tmp_path_factory.mktemp("traced")))


@pytest.fixture(scope="module")
def ids(home: Path) -> list[str]:
    return score_purchases(home, 5)


@pytest.fixture(scope="module")
def client(home: Path, ids: list[str]) -> Iterator[TestClient]:
    with TestClient(create_app(home), "http://localhost") as opened:
        yield opened


def facts(trail: lineage.Trail, name: str) -> dict[str, str]:
    return {fact: value for step in trail.steps if step.name == name for fact, value, _ in step.facts}


def test_prediction_is_traced_back_to_run_code_and_spans(home: Path, ids: list[str]) -> None:
    logged = logbook.find_prediction(home / "fraud" / "online", ids[2])
    assert (logged.key, logged.version, logged.score) == ("t2", 2, pytest.approx(0.31))
    trail = lineage.trace_back(home, "fraud", logged)
    assert not [step.missing for step in trail.steps if step.missing]
    assert facts(trail, "run")["run"] == RUN and facts(trail, "code")["commit"] == "abc1234"
    assert facts(trail, "spans")["spans"] == "0 to 1"
    assert facts(trail, "prediction")["label"] == "not known yet"
    ran = trace.executions(MetadataAddress.of(home), RUN)
    names = {out.key: f"{out.type} {out.id}" for execution in ran for out in execution.outputs}
    for pair in (
        ("spans", names["examples"]),
        (names["examples"], names["model"]),
        (names["pushed_model"], "version 2"),
        ("version 2", "prediction"),
        ("code", names["model"]),
    ):
        assert pair in trail.edges
    assert names["lite_model"] not in {name for pair in trail.edges for name in pair}  # the push did not take it


def test_span_is_traced_forward_to_the_number_of_predictions(home: Path, ids: list[str]) -> None:
    source = lineage.read_sources(home, "fraud")[0]
    counts = PredictionLogReader(home / "fraud" / "online").refresh().counts()
    assert counts == {2: 5} and source.spans == (0, 1)
    trail = lineage.trace_forward(home, "fraud", source, 1, counts)
    assert facts(trail, "version 2")["logged predictions"] == "5"
    assert ("version 2", "5 predictions") in trail.edges
    unused = lineage.trace_forward(home, "fraud", source, 7, counts)
    assert [step.missing for step in unused.steps] == [
        "The span's folder is not there any more.",
        "No run in the store has learnt from this span.",
    ]


def test_refresh_adds_only_new_predictions(home: Path, ids: list[str]) -> None:
    reader = PredictionLogReader(home / "fraud" / "online").refresh()
    assert [logged.id for logged in reader.latest()] == ids[::-1]
    assert reader.refresh().counts() == {2: 5}


def test_label_is_read_from_the_log(tmp_path: Path) -> None:
    from support.gateway_case import open_gateway, post, run, score_purchase

    async def work() -> str:
        async with open_gateway(tmp_path) as (gateway, _):
            _, answer = await score_purchase(gateway)
            await post(gateway, "/labels", {"prediction_id": answer["prediction_id"], "label": 1})
            return answer["prediction_id"]

    identity = run(work())
    assert logbook.find_label(tmp_path / "fraud" / "online", identity) == "1"
    assert logbook.find_label(tmp_path / "fraud" / "online", identity[:-1] + "x") == ""
    assert read_logged_rows(tmp_path, folder="labels")


def test_missing_steps_are_reported(tmp_path: Path) -> None:
    plant_home(tmp_path)
    logged = logbook.find_prediction(tmp_path / "fraud" / "online", score_purchases(tmp_path, 1)[0])
    shutil.rmtree(tmp_path / "raw" / "span-001")
    shutil.rmtree(tmp_path / "fraud" / "versions" / "2")
    missing = [step.missing for step in lineage.trace_back(tmp_path, "fraud", logged).steps if step.missing]
    assert missing == ["The folder of version 2 is not there any more.", "1 of 2 spans are not there any more."]
    path = Home(tmp_path).metadata
    run = store.runs(path, "fraud")[0]
    store.save(path, Run(RUN, "fraud", "failed", "", "f", run.facts))
    assert (
        "No run in the store says that it pushed version 2"
        in lineage.trace_back(tmp_path, "fraud", logged).steps[-1].missing
    )


def test_missing_decision_of_a_run_is_reported(tmp_path: Path) -> None:
    plant_home(tmp_path)
    path = Home(tmp_path).metadata
    run = store.runs(path, "fraud")[0]
    store.save(path, Run(RUN, "fraud", "pushed", "", "f", run.facts | {"decision": "fraud-9", "commit": ""}))
    logged = logbook.find_prediction(tmp_path / "fraud" / "online", score_purchases(tmp_path, 1)[0])
    missing = {step.name: step.missing for step in lineage.trace_back(tmp_path, "fraud", logged).steps}
    assert missing["decision"] == "fraud-9 is not in the store any more."
    assert "no commit is known" in missing["code"]


def test_producer_of_a_cached_artifact_is_the_run_that_computed_it(tmp_path: Path) -> None:
    plant_artifacts(tmp_path, RUN, STAGES[:2], tmp_path / "artifacts")
    path = MetadataAddress.of(tmp_path)
    first = trace.executions(path, RUN)[1].outputs[0]
    store.copy_as_cached(path, RUN, "fraud-later")
    assert trace.executions(path, "fraud-later")[1].outputs[0].id == first.id
    assert trace.find_producer(path, first.id)[0] == RUN
    assert trace.run_ids(path, "fraud-") == [RUN, "fraud-later"]
    assert trace.find_producer(path, 999) is None and trace.executions(path, "nothing") == []


def test_pages_link_the_list_to_predictions_spans_and_artifacts(client: TestClient, home: Path, ids: list[str]) -> None:
    overview = client.get("/lineage").text
    assert f"/lineage/prediction/{ids[0]}" in overview and "/lineage/span/fraud/0/1" in overview
    text = client.get(f"/lineage/prediction/{ids[0]}").text
    assert RUN in text and "abc1234" in text and "customer_id" in text
    assert client.get("/lineage/find", params={"id": f" {ids[0]} "}).status_code == 200
    assert "5 predictions" in client.get("/lineage/span/fraud/0/0").text
    output = trace.executions(MetadataAddress.of(home), RUN)[-1].outputs[0]
    page = client.get(f"/lineage/artifact/{output.id}").text
    assert "Examples" in page and "Trainer" in page


@pytest.mark.parametrize(
    "path",
    [
        "/lineage/prediction/fraud.1.0.00000000",
        "/lineage/prediction/nobody.1.0.00000000",
        "/lineage/prediction/x",
        "/lineage/prediction/..%2f..%2fetc%2fpasswd",
        "/lineage/find?id=../../etc/passwd",
        "/lineage/find",
        "/lineage/span/fraud/9/1",
        "/lineage/span/fraud/-1/1",
        "/lineage/span/nobody/0/1",
        "/lineage/artifact/9999",
        "/lineage/span/fraud/x/1",
    ],
)
def test_unknown_prediction_span_or_artifact_is_refused(client: TestClient, path: str) -> None:
    answer = client.get(path, headers={"accept": "text/html"})
    assert answer.status_code in (404, 422) and "Traceback" not in answer.text


def test_empty_home_shows_the_commands_to_run(tmp_path: Path) -> None:
    with TestClient(create_app(tmp_path), "http://localhost") as client:
        text = client.get("/lineage").text
        assert "showcase serve" in text and "No run yet" in text
        assert client.get("/lineage/artifact/1").status_code == 404


def test_damaged_log_is_reported(tmp_path: Path) -> None:
    plant_home(tmp_path)
    score_purchases(tmp_path, 2)
    file = next((tmp_path / "fraud" / "online" / "predictions").glob("*.tfrecord"))
    file.write_bytes(file.read_bytes()[:-3] + b"xyz")
    with TestClient(create_app(tmp_path), "http://localhost") as client:
        assert "is damaged" in client.get("/lineage").text


def test_data_is_escaped(tmp_path: Path) -> None:
    plant_home(tmp_path, hostile=True)
    path = Home(tmp_path).metadata
    run = store.runs(path, "fraud")[0]
    facts = run.facts | {"commit": HOSTILE, "libraries": json.dumps({HOSTILE: "1"})}
    store.save(path, Run(RUN, "fraud", "pushed", HOSTILE, "f", facts))
    identity = score_purchases(tmp_path, 1)[0]
    with TestClient(create_app(tmp_path), "http://localhost") as client:
        for path in (f"/lineage/prediction/{identity}", "/lineage/span/fraud/0/0", "/lineage"):
            text = client.get(path).text
            tags = TagParser(text).found
            assert HOSTILE not in text and not [tag for tag in tags if any(key.startswith("on") for key in tag[1])]


def test_drop_executions_joins_their_inputs_and_outputs() -> None:
    from tour.evidence.result_types import Graph, Node

    nodes = tuple(Node(name) for name in ("Examples 1", "Trainer (1)", "Model 2", "ModelRun 3"))
    edges = (("Examples 1", "Trainer (1)"), ("Trainer (1)", "Model 2"), ("Trainer (1)", "ModelRun 3"))
    assert pages.drop_executions(Graph("", nodes, edges)) == {("Examples 1", "Model 2"), ("Examples 1", "ModelRun 3")}


@pytest.mark.system
def test_links_of_the_graph_open_in_a_browser(home: Path, ids: list[str], page: Page) -> None:
    with run_tour(create_app(home)) as address:
        page.goto(f"{address}/lineage")
        page.fill("#id", ids[1])
        page.click("form .main")
        wait_until(page, "location.pathname === '/lineage/find' && document.readyState === 'complete'")
        assert page.evaluate("document.querySelectorAll('.trail a').length") >= 8
        node = "[...document.querySelectorAll('.trail a')].find(link => link.textContent.includes('Model'))"
        page.evaluate(f"{node}.dispatchEvent(new MouseEvent('click', {{ bubbles: true }}))")
        wait_until(page, "location.pathname.startsWith('/stages/fraud/') && document.readyState === 'complete'")
        assert read_errors(page) == [] and requests_only(page, address)
