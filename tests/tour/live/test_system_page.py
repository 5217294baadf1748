"""The System page: it shows the state of the stores, and reports changes as events."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from support.planted_home import COMPLETE, RUNNING, plant_run, plant_stages

from pipeline.home import Home
from pipeline.metadata import store
from pipeline.run import Run
from serving import rollout
from tour.live import cases, dag
from tour.live.dag import StageStatus
from tour.web.application import create_app
from tour.web.pages import system

BASE = "http://127.0.0.1"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    plant_run(tmp_path)
    return tmp_path


@pytest.fixture
def client(home: Path) -> Iterator[TestClient]:
    with TestClient(create_app(home), base_url=BASE) as opened:
        yield opened


def look(client: TestClient) -> dict[str, str]:
    """Parts of the page after the state was read once."""
    watch, page = client.app.state.watch, client.app.state.page
    client.portal.call(watch.refresh)
    return system.render_parts(page.templates, watch.state)


def test_page_shows_the_last_run_the_pushed_version_and_that_no_gateway_answers(client: TestClient) -> None:
    page = client.get("/").text
    for words in ("Pusher", "done · 1.5 s", "version 1", "pr_auc 0.5", "spans 0:9", 'href="/stages/fraud/Trainer"'):
        assert words in page, words
    assert "No gateway is running; start one with <code>showcase serve</code>" in page
    assert "No run yet; <code>showcase run image</code>" in page


def test_empty_home_shows_the_command_for_the_first_run(tmp_path: Path) -> None:
    with TestClient(create_app(tmp_path), base_url=BASE) as client:
        assert "No run yet; <code>showcase run fraud</code>" in client.get("/").text


def test_store_change_adds_an_event_and_changes_only_its_parts(client: TestClient, home: Path) -> None:
    before = look(client)
    run = Run("fraud-2", "fraud", "running", "", "f", {"pid": "1"})
    store.save(Home(home).metadata, run)
    with store.open_for_writing(Home(home).metadata) as metadata:
        plant_stages(metadata, "fraud-2", {"SpanExampleGen": COMPLETE, "StatisticsGen": RUNNING})
    after = look(client)
    assert {name for name in before if before[name] != after[name]} == {"run-fraud", "graph-fraud", "happened"}
    assert "Run fraud-2 began." in after["happened"] and "StatisticsGen: running" in after["happened"]
    assert 'class="node running"' in after["graph-fraud"] and 'class="node waiting"' in after["graph-fraud"]


def test_rollout_and_incident_are_shown(client: TestClient, home: Path) -> None:
    look(client)
    versions = Home(home).case("fraud").versions
    (versions / "2").mkdir()
    rollout.promote(versions, 1, share=0.25)
    window = {"window": 93, "rows": 500, "skipped": "", "moved": ["amount"], "faults": []}
    incident = {"id": 1, "kind": "drift", "opened": 93, "last": 93, "causes": ["amount"], "state": "open"}
    (home / "fraud" / "online").mkdir()
    state = {"windows": [window], "judge": {"incidents": {"seen": [incident]}}}
    (home / "fraud" / "online" / "monitor.json").write_text(json.dumps(state))
    parts = look(client)
    assert "canary 1 for 25%" in parts["tiles-fraud"] and "since 1970-04-04: amount" in parts["tiles-fraud"]
    assert "drift incident 1 is open: amount" in parts["happened"] and "Versions: " in parts["happened"]


def test_stream_sends_all_parts_and_then_only_changed_ones(home: Path) -> None:
    class Request:
        def __init__(self, app: object) -> None:
            self.app = app

        async def is_disconnected(self) -> bool:
            return False

    async def read_stream() -> list[dict[str, str]]:
        app = create_app(home)
        watch = app.state.watch
        stream = system._events(Request(app))
        first = await anext(stream)
        store.save(Home(home).metadata, replace(plant_run(home), reason="version 7"))
        watch.start()
        second = await asyncio.wait_for(anext(stream), 30)
        await watch.close()
        return [json.loads(message.partition("data: ")[2]) for message in (first, second)]

    first, second = asyncio.run(read_stream())
    assert {"serving", "happened", "run-fraud", "graph-image"} <= first.keys()
    assert "version 7" in second["run-fraud"] and "run-image" not in second


def test_damaged_file_is_reported_and_other_parts_stay(client: TestClient, home: Path) -> None:
    look(client)
    (Home(home).case("fraud").versions / rollout.FILE).write_text("{")
    parts = look(client)
    assert "rollout.json is damaged" in parts["serving"] and "version 1" in parts["tiles-fraud"]


def test_reason_of_a_run_is_escaped(client: TestClient, home: Path) -> None:
    store.save(Home(home).metadata, replace(plant_run(home), reason="<script>alert(1)</script>", state="refused"))
    assert "&lt;script&gt;" in look(client)["run-fraud"] and "<script>alert" not in client.get("/").text


def test_refused_stage_has_a_message(home: Path) -> None:
    run = plant_run(home, run_id="fraud-3", state="refused")
    outcomes = json.loads(run.facts["stages"]) | {
        "DataGate": {"state": "refused", "seconds": 0.5, "message": "amount has nulls"}
    }
    run = replace(run, facts={**run.facts, "stages": json.dumps(outcomes)})
    graph = dag.load_graph(Home(home).metadata, run, home)
    assert (graph.stage("DataGate").state, graph.stage("DataGate").message) == ("refused", "amount has nulls")


def test_verdict_marks_the_refusing_stage_and_the_stages_it_holds_back(home: Path) -> None:
    run = plant_run(home, run_id="fraud-4", state="refused", reason="Trainer: pr_auc is 0.1; recall is 0.2")
    graph = dag.load_graph(Home(home).metadata, run, home)
    assert {stage.name: stage.state for stage in graph.stages if stage.state != "done"} == {
        "Trainer": "refused",
        "Pusher": "held",
    }
    with TestClient(create_app(home), base_url=BASE) as client:
        page = client.get("/").text
    assert (
        "<strong>Trainer: pr_auc is 0.1</strong>" in page and "<li>recall is 0.2</li>" in page and "held back" in page
    )


def test_metric_of_a_version_is_that_of_the_run_that_pushed_it(home: Path) -> None:
    run = plant_run(home, run_id="fraud-5")
    pushed = replace(run, facts={**run.facts, "pushed": "/elsewhere/versions/1", "headline": "pr_auc 0.75"})
    refused = replace(run, id="fraud-6", state="refused", facts={"headline": "pr_auc 0.1"})
    for saved in (pushed, refused):
        store.save(Home(home).metadata, saved)
    assert [case.headline for case in cases.read_cases(home) if case.name == "fraud"] == ["pr_auc 0.75"]


def test_edges_lead_to_the_right_and_are_transitively_reduced(home: Path) -> None:
    graph = dag.load_graph(Home(home).metadata, plant_run(home), home)
    assert ("SpanExampleGen", "Trainer") not in graph.edges and ("DataGate", "Trainer") in graph.edges
    assert all(graph.stage(a).column < graph.stage(b).column for a, b in graph.edges)
    places = [(stage.column, stage.row) for stage in graph.stages]
    assert len(set(places)) == len(places)


def test_long_edge_passes_behind_no_stage() -> None:
    edges = [("a", "b"), ("b", "c"), ("c", "d"), ("e", "d"), ("a", "e")]
    graph = dag.lay_out([StageStatus(name, "done") for name in "abcde"], edges)
    way = graph.ways[graph.edges.index(("e", "d"))]
    first = graph.stage("e").column
    taken = {(stage.column, stage.row) for stage in graph.stages}
    assert len(way) == 1 and not any((first + at, row) in taken for at, row in enumerate(way, 1))


def test_viewers_share_one_rendering(client: TestClient) -> None:
    calls: list[object] = []
    watch = client.app.state.watch
    client.portal.call(watch.refresh)
    for _ in range(5):
        watch.render_once(lambda state: calls.append(state) or {})
    assert len(calls) <= 1


def test_dependencies_without_artifact_match_the_pipeline_graph() -> None:
    from models.catalog import CASES
    from pipeline.plan import Plan
    from tour.evidence import overview

    case = CASES["fraud"]
    plan = Plan(
        case,
        "/raw",
        0,
        1,
        case.configure({}),
        "",
        "/versions",
        "",
        space={"learning_rate": {"low": 0.1, "high": 1}},
    )
    _, edges = overview.build_graph(plan)
    dependencies = {(b if b != "latest_blessed_model" else "Resolver", a) for b, a in edges}
    assert {(a, b) for a, b in dag.ORDER_EDGES if a != "Resolver"} <= dependencies
