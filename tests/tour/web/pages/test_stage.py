"""Stage pages: every stage with its artifacts, code and questions, the threshold slider, and escaping of data."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from markupsafe import escape
from playwright.sync_api import Page
from sklearn.metrics import confusion_matrix
from support.browser import read_errors, requests_only, wait_until
from support.command import ROOT
from support.shown_home import (
    HOSTILE,
    MONITORING_RUN,
    RUN,
    STAGES,
    THRESHOLD,
    plant_home,
    plant_monitoring_run,
    truth_and_scores,
)
from support.shown_kinds import TagParser
from support.tour_server import run_tour

from models.catalog import CASES
from pipeline.home import Home
from pipeline.metadata.store_address import MetadataAddress
from tour import notes, trace
from tour.artifacts import curves
from tour.web import sources
from tour.web.application import create_app

NODES = [*(node for node, _, _ in STAGES), "DriftMonitor", "Decide"]
SLIDER, MISS = "document.querySelector('#threshold')", "document.querySelector('[data-price=miss]')"
OUTPUTS = "[...document.querySelectorAll('.meters [data-out]')]"
METERS = f"Object.fromEntries({OUTPUTS}.map(output => [output.dataset.out, output.textContent]))"


def set_input(page: Page, field: str, value: float) -> None:
    page.evaluate(f"(field => {{ field.value = {value}; field.dispatchEvent(new Event('input')); }})({field})")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant_monitoring_run(plant_home(tmp_path_factory.mktemp("shown")))


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[TestClient]:
    with TestClient(create_app(home), "http://localhost") as opened:
        yield opened


@pytest.mark.parametrize("node", NODES)
def test_every_stage_has_a_page_with_its_summary_and_code(client: TestClient, node: str) -> None:
    answer = client.get(f"/stage/fraud/{node}")
    assert answer.status_code == 200 and "cannot be read" not in answer.text
    piece = sources.find_stage_code(node, "fraud")[0]
    assert str(escape(piece.sentence)) in answer.text and f"{piece.path}:{piece.line}" in answer.text


def test_code_on_the_page_equals_the_file() -> None:
    for piece in sources.find_stage_code("Trainer", "fraud"):
        lines = (ROOT / piece.path).read_text().splitlines()
        assert all(lines[number - 1] == text for number, text in piece.source)
        assert piece.name in piece.source[0][1] or piece.source[0][1].startswith("@")


def test_stage_lists_the_questions_of_its_code(client: TestClient) -> None:
    text = client.get("/stage/fraud/Evaluator").text
    assert 'href="/questions/A28"' in text and 'href="/questions/A30"' in text
    ids = {
        node: {note.id for note in sources.find_notes(sources.find_stage_code(node, "fraud"), notes.current())}
        for node in NODES
    }
    assert "A17" in ids["Trainer"] and "A17" not in ids["LiteExporter"] and "B14" in ids["LiteExporter"]


def test_every_node_of_the_graph_has_a_summary() -> None:
    for path in sources.GRAPHS:
        assert (ROOT / path).is_file()
    names = [node for node, _, _ in STAGES]
    assert all(
        sources.find_stage_code(name, "fraud")[0].sentence.endswith(".")
        for name in [*names, "Resolver", "Tuner", "FitGate"]
    )


def test_index_lists_pipeline_and_monitoring_runs(client: TestClient) -> None:
    text = client.get("/stages").text
    assert (
        f"/stage/fraud/DriftMonitor?run={MONITORING_RUN}" in text
        and "/stage/fraud/Trainer" in text
        and "showcase run image" in text
    )


def test_served_threshold_is_shown_without_javascript(client: TestClient) -> None:
    truth, scores = truth_and_scores()
    (_, fp), (fn, tp) = confusion_matrix(truth, scores >= np.float32(THRESHOLD))
    text = client.get("/stage/fraud/Evaluator").text
    for name, value in (("tp", tp), ("fp", fp), ("fn", fn), ("threshold", f"{THRESHOLD:.4f}")):
        assert f'data-out="{name}">{value}<' in text
    assert f'data-out="cost">{(fn * 120 + fp * 12) / len(truth):.4f}<' in text


def test_missing_or_damaged_file_is_reported_on_the_page(tmp_path: Path) -> None:
    plant_home(tmp_path)
    (tmp_path / "artifacts" / "lite_model" / "lite.json").write_text("{")
    (tmp_path / "artifacts" / "model_run" / "training.json").write_text('{"curves": []}')
    (tmp_path / "artifacts" / "comparison" / "scores.npz").unlink()
    with TestClient(create_app(tmp_path), "http://localhost") as client:
        assert "cannot be read" in client.get("/stage/fraud/LiteExporter").text
        assert "cannot be read" in client.get("/stage/fraud/Trainer").text
        assert "has not kept them" in client.get("/stage/fraud/Evaluator").text


@pytest.mark.parametrize(
    "path",
    [
        "/stage/nobody/Trainer",
        "/stage/fraud/Nothing",
        "/stage/fraud/Trainer?run=nothing",
        "/stage/fraud/..%2f..%2fetc",
        "/figure/fraud/nothing/learnt",
        "/figure/fraud/..%2f../learnt",
        "/report/fraud/99",
        "/report/fraud/1",
        "/report/fraud/x",
        f"/figure/image/{RUN}/learnt",
    ],
)
def test_unknown_stage_run_or_report_is_refused(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (404, 422)


def test_report_is_shown_without_scripts(client: TestClient, home: Path) -> None:
    decision = trace.executions(MetadataAddress.of(home), MONITORING_RUN)[-1].outputs[0]
    answer = client.get(f"/report/fraud/{decision.id}")
    assert answer.text == "<p>drift</p>" and "script" not in answer.headers["content-security-policy"]


def test_data_is_escaped(tmp_path: Path) -> None:
    plant_monitoring_run(plant_home(tmp_path, hostile=True))
    with TestClient(create_app(tmp_path), "http://localhost") as client:
        pages = [client.get(f"/stage/fraud/{node}") for node in NODES]
    for answer in [page for page in pages if page.status_code == 200]:
        tags = TagParser(answer.text).found
        assert not [name for name, attrs in tags if name == "img" or any(key.startswith("on") for key in attrs)]
        assert HOSTILE not in answer.text
    assert sum("&lt;img" in answer.text for answer in pages) >= 7


def test_transform_graph_is_read_once(client: TestClient, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tour.web.pages import stage

    runs = []

    async def read_fake_graph(home: Path, case: str, run: str, path: Path) -> str:
        runs.append(run)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps([{"kind": "Table", "title": HOSTILE, "columns": ["a"], "rows": [[1]], "svg": ""}]))
        return path.read_text()

    monkeypatch.setattr(stage, "_read_transform_graph", read_fake_graph)
    answers = [client.get(f"/figure/fraud/{RUN}/learnt") for _ in range(2)]
    assert runs == [RUN] and all(answer.status_code == 200 and "&lt;img" in answer.text for answer in answers)


@pytest.mark.system
def test_slider_changes_the_matrix_the_points_and_the_cost(page: Page, home: Path) -> None:
    truth, scores = truth_and_scores()
    table = curves.threshold_table(truth, scores, THRESHOLD)
    rows = [curves.rates_at(table, at) for at in range(len(table["threshold"]))]
    costs = [row["fn"] * 120 + row["fp"] * 12 for row in rows]
    with run_tour(create_app(home)) as address:
        page.goto(f"{address}/stage/fraud/Evaluator")
        wait_until(page, f"!{SLIDER}.disabled")
        assert page.evaluate(f"Number({SLIDER}.value)") == table["served"]
        before = page.evaluate("document.querySelector('.moved').getAttribute('cx')")
        set_input(page, SLIDER, 3)
        rates = curves.rates_at(table, 3)
        assert page.evaluate(METERS) == {
            "tp": str(rates["tp"]),
            "fp": str(rates["fp"]),
            "fn": str(rates["fn"]),
            "recall": f"{rates['recall']:.1%}",
            "precision": f"{rates['precision']:.1%}",
            "cost": f"{costs[3] / len(truth):.4f}",
        }
        assert page.evaluate("document.querySelector('.moved').getAttribute('cx')") != before
        page.click("[data-to=cheapest]")
        assert page.evaluate(METERS)["cost"] == f"{min(costs) / len(truth):.4f}"
        set_input(page, MISS, 0)
        page.click("[data-to=cheapest]")
        assert page.evaluate(METERS)["cost"] == "0.0000"  # stopping nothing costs nothing if a false negative is free
        page.click("[data-to=served]")
        assert page.evaluate(METERS)["tp"] == str(curves.rates_at(table, table["served"])["tp"])
        assert read_errors(page) == [] and requests_only(page, address)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_stage_of_the_demos_run_is_shown(pushed_home: Path, case: str) -> None:
    assert_every_stage_is_shown(pushed_home, case)


def assert_every_stage_is_shown(home: Path, case: str) -> None:
    """Assert that the pages of all stages of the last run of a real home are complete."""
    run = Home(home).runs(case)[-1]
    ran = trace.executions(Home(home).metadata, run.id)
    assert len(ran) >= 15
    with TestClient(create_app(home), "http://localhost") as client:
        for execution in ran:
            text = client.get(f"/stages/{case}/{execution.node}").text
            assert "cannot be read" not in text and "not there any more" not in text, execution.node
            assert sources.find_stage_code(execution.node, case), execution.node
