"""Stage pages: what an artifact is shown as, the threshold against scikit-learn, and what data may not do to a page."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from markupsafe import escape
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve, roc_auc_score
from support.browser import wait_until
from support.command import ROOT
from support.programs import needs
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
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.metadata.store_address import MetadataAddress
from serving.browser import chromium
from serving.browser.chromium import Chromium
from tour import notes, trace
from tour.artifacts import charts, curves, statistics, transform
from tour.web import sources
from tour.web.app import create

NODES = [*(node for node, _, _ in STAGES), "DriftMonitor", "Decide"]
SLIDER, MISS = "document.querySelector('#threshold')", "document.querySelector('[data-price=miss]')"
SAID = "Object.fromEntries([...document.querySelectorAll('.meters [data-out]')].map(one => [one.dataset.out, one.textContent]))"


def put(page: Chromium, where: str, value: float) -> None:
    page.evaluate(f"(one => {{ one.value = {value}; one.dispatchEvent(new Event('input')); }})({where})")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant_monitoring_run(plant_home(tmp_path_factory.mktemp("shown")))


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[TestClient]:
    with TestClient(create(home), "http://localhost") as opened:
        yield opened


def test_every_line_of_the_table_is_what_scikit_learn_counts() -> None:
    truth, scores = truth_and_scores()
    told = curves.threshold_table(truth, scores, THRESHOLD)
    assert (
        told["threshold"] == sorted(told["threshold"], reverse=True) and len(told["threshold"]) <= curves.MAX_ROWS + 2
    )
    for at, threshold in enumerate(told["threshold"]):
        (tn, fp), (fn, tp) = confusion_matrix(truth, scores >= np.float32(threshold), labels=[0, 1])
        one = curves.rates_at(told, at)
        assert (one["tn"], one["fp"], one["fn"], one["tp"]) == (tn, fp, fn, tp), threshold
    assert told["roc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert told["pr"] == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    precision, recall, thresholds = precision_recall_curve(truth, scores)
    served = curves.rates_at(told, told["served"])
    at = int(np.searchsorted(thresholds, np.float32(THRESHOLD)))
    assert (served["precision"], served["recall"]) == (precision[at], recall[at])


@pytest.mark.parametrize("truth", [[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
def test_a_split_of_one_class_or_two_rows_has_a_table_too(truth: list[float]) -> None:
    told = curves.threshold_table(np.array(truth), np.array([0.7, 0.2], np.float32), 0.5)
    assert told["tp"][0] == told["fp"][0] == 0
    assert (told["tp"][-1], told["fp"][-1]) == (told["positives"], told["negatives"])
    assert json.loads(curves.to_json(told, {"miss": 1.0}))["prices"] == {"miss": 1.0}


def test_a_thousand_distinct_scores_keep_the_rare_class_and_stay_few() -> None:
    draw = np.random.default_rng(2)
    truth, scores = (draw.random(20_000) < 0.01).astype(float), draw.random(20_000).astype(np.float32)
    told = curves.threshold_table(truth, scores, 0.9)
    assert len(told["threshold"]) <= curves.MAX_ROWS + 2
    assert np.diff(told["tp"]).max() <= np.ceil(2 * truth.sum() / (curves.MAX_ROWS // 2))


def test_confidence_counts_what_is_answered_and_right() -> None:
    draw = np.random.default_rng(3)
    probabilities = draw.dirichlet(np.ones(4), 500)
    truth = draw.integers(0, 4, 500)
    told = curves.confidence_table(truth, probabilities)
    assert told["matrix"] == confusion_matrix(truth, probabilities.argmax(axis=1)).tolist()
    for threshold, answered, right in zip(told["threshold"], told["answered"], told["right"], strict=True):
        kept = probabilities.max(axis=1) >= threshold
        assert (answered, right) == (kept.sum(), (probabilities.argmax(axis=1) == truth)[kept].sum())


def test_histograms_keep_their_shares_whatever_the_buckets(home: Path) -> None:
    held = statistics.read_statistics(home / "artifacts" / "statistics")
    amount, channel = statistics.features(held)
    assert (amount["numeric"], channel["numeric"]) == (True, False) and channel["tops"] == ["online"]
    series, _ = statistics._numbers({split: one.features[0] for split, one in held.items()})
    assert all(sum(shares) == pytest.approx(1) for shares in series.values())
    assert statistics.anomalies(home / "artifacts" / "anomalies") == [
        {"split": "eval", "feature": "channel", "short": "Unexpected string values", "full": "online"}
    ]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.031, 0.77), (-5, 12_000), (1e-7, 3e-7), (3, 3)])
def test_ticks_are_round_and_within(low: float, high: float) -> None:
    found = charts.ticks(low, high)
    assert 1 <= len(found) <= 8 and all(low - 1e-12 <= one <= high * (1 + 1e-12) for one in found)


@pytest.mark.parametrize("node", NODES)
def test_every_stage_has_a_page_with_its_sentence_and_its_code(client: TestClient, node: str) -> None:
    answer = client.get(f"/stage/fraud/{node}")
    assert answer.status_code == 200 and "cannot be read" not in answer.text
    piece = sources.stage(node, "fraud")[0]
    assert str(escape(piece.sentence)) in answer.text and f"{piece.path}:{piece.line}" in answer.text


def test_the_lines_shown_are_those_of_the_file() -> None:
    for piece in sources.stage("Trainer", "fraud"):
        lines = (ROOT / piece.path).read_text().splitlines()
        assert all(lines[number - 1] == text for number, text in piece.source)
        assert piece.name in piece.source[0][1] or piece.source[0][1].startswith("@")


def test_a_stage_answers_the_questions_of_its_code(client: TestClient) -> None:
    text = client.get("/stage/fraud/Evaluator").text
    assert 'href="/questions/A28"' in text and 'href="/questions/A30"' in text
    found = {
        node: {one.id for one in sources.questions(sources.stage(node, "fraud"), notes.current())} for node in NODES
    }
    assert "A17" in found["Trainer"] and "A17" not in found["LiteExporter"] and "B14" in found["LiteExporter"]


def test_every_node_of_the_graph_has_its_sentence() -> None:
    for path in sources.GRAPHS:
        assert (ROOT / path).is_file()
    names = [node for node, _, _ in STAGES]
    assert all(
        sources.stage(name, "fraud")[0].sentence.endswith(".") for name in [*names, "Resolver", "Tuner", "FitGate"]
    )


def test_the_index_lists_runs_and_looks(client: TestClient) -> None:
    text = client.get("/stages").text
    assert (
        f"/stage/fraud/DriftMonitor?run={MONITORING_RUN}" in text
        and "/stage/fraud/Trainer" in text
        and "showcase run image" in text
    )


def test_without_a_script_the_served_threshold_is_shown(client: TestClient) -> None:
    truth, scores = truth_and_scores()
    (_, fp), (fn, tp) = confusion_matrix(truth, scores >= np.float32(THRESHOLD))
    text = client.get("/stage/fraud/Evaluator").text
    for name, value in (("tp", tp), ("fp", fp), ("fn", fn), ("threshold", f"{THRESHOLD:.4f}")):
        assert f'data-out="{name}">{value}<' in text
    assert f'data-out="cost">{(fn * 120 + fp * 12) / len(truth):.4f}<' in text


def test_what_is_missing_or_damaged_is_told_and_the_rest_stays(tmp_path: Path) -> None:
    plant_home(tmp_path)
    (tmp_path / "artifacts" / "lite_model" / "lite.json").write_text("{")
    (tmp_path / "artifacts" / "model_run" / "training.json").write_text('{"curves": []}')
    (tmp_path / "artifacts" / "comparison" / "scores.npz").unlink()
    with TestClient(create(tmp_path), "http://localhost") as client:
        assert "cannot be read" in client.get("/stage/fraud/LiteExporter").text
        assert "cannot be read" in client.get("/stage/fraud/Trainer").text
        assert "has not kept them" in client.get("/stage/fraud/Evaluator").text


@pytest.mark.parametrize(
    "place",
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
def test_nothing_else_can_be_asked_for(client: TestClient, place: str) -> None:
    assert client.get(place).status_code in (404, 422)


def test_a_report_is_shown_under_a_policy_that_lets_it_run_nothing(client: TestClient, home: Path) -> None:
    decided = trace.executions(MetadataAddress.of(home), MONITORING_RUN)[-1].outputs[0]
    answer = client.get(f"/report/fraud/{decided.id}")
    assert answer.text == "<p>drift</p>" and "script" not in answer.headers["content-security-policy"]


def test_nothing_from_data_becomes_markup(tmp_path: Path) -> None:
    plant_monitoring_run(plant_home(tmp_path, hostile=True))
    with TestClient(create(tmp_path), "http://localhost") as client:
        pages = [client.get(f"/stage/fraud/{node}") for node in NODES]
    for answer in [one for one in pages if one.status_code == 200]:
        tags = TagParser(answer.text).found
        assert not [name for name, held in tags if name == "img" or any(key.startswith("on") for key in held)]
        assert HOSTILE not in answer.text
    assert sum("&lt;img" in answer.text for answer in pages) >= 7


def test_the_transform_is_read_once_and_kept(client: TestClient, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tour.web.pages import stage

    asked = []

    async def learn(home: Path, case: str, run: str, path: Path) -> None:
        asked.append(run)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps([{"kind": "Table", "title": HOSTILE, "columns": ["a"], "rows": [[1]], "svg": ""}]))

    monkeypatch.setattr(stage, "_learn", learn)
    answers = [client.get(f"/figure/fraud/{RUN}/learnt") for _ in range(2)]
    assert asked == [RUN] and all(one.status_code == 200 and "&lt;img" in one.text for one in answers)


@pytest.mark.system
def test_the_slider_moves_the_matrix_the_points_and_the_cost(home: Path) -> None:
    needs(*chromium.PROGRAMS)
    truth, scores = truth_and_scores()
    told = curves.threshold_table(truth, scores, THRESHOLD)
    every = [curves.rates_at(told, at) for at in range(len(told["threshold"]))]
    costs = [one["fn"] * 120 + one["fp"] * 12 for one in every]
    with run_tour(create(home)) as address, Chromium(f"{address}/stage/fraud/Evaluator") as page:
        wait_until(page, f"!{SLIDER}.disabled")
        assert page.evaluate(f"Number({SLIDER}.value)") == told["served"]
        before = page.evaluate("document.querySelector('.moved').getAttribute('cx')")
        put(page, SLIDER, 3)
        one = curves.rates_at(told, 3)
        assert page.evaluate(SAID) == {
            "tp": str(one["tp"]),
            "fp": str(one["fp"]),
            "fn": str(one["fn"]),
            "recall": f"{one['recall']:.1%}",
            "precision": f"{one['precision']:.1%}",
            "cost": f"{costs[3] / len(truth):.4f}",
        }
        assert page.evaluate("document.querySelector('.moved').getAttribute('cx')") != before
        page.evaluate("document.querySelector('[data-to=cheapest]').click()")
        assert page.evaluate(SAID)["cost"] == f"{min(costs) / len(truth):.4f}"
        put(page, MISS, 0)
        page.evaluate("document.querySelector('[data-to=cheapest]').click()")
        assert page.evaluate(SAID)["cost"] == "0.0000"  # to stop nothing costs nothing where a miss is free
        page.evaluate("document.querySelector('[data-to=served]').click()")
        assert page.evaluate(SAID)["tp"] == str(curves.rates_at(told, told["served"])["tp"])
        assert page.console_errors == [] and all(url.startswith((address, "data:")) for url in page.requests)


def test_constants_of_a_transform_graph_are_told_by_their_numbers() -> None:
    draw = np.random.default_rng(1)
    rows = draw.normal(3.0, 2.0, (500, 4))
    covariance = np.cov(rows.T)
    axes = np.linalg.eigh(covariance)[1][:, :2]
    held = [
        covariance,
        axes,
        rows.var(axis=0, ddof=1),
        rows.mean(axis=0),
        np.array([[1.0, 2.0, 5.0]]),
        np.array([3.0, 1.0]),
    ]
    assert [transform.describe_constant(one, held) for one in held] == [
        "covariance of the columns",
        "principal axes, one a column",
        "variances of the columns",
        "means of the columns",
        "boundaries of buckets",
        "numbers of the train split",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_stage_of_the_demos_run_is_shown(pushed_home: Path, case: str) -> None:
    every_stage_is_shown(pushed_home, case)


def every_stage_is_shown(home: Path, case: str) -> None:
    """Every stage of the last run of a real home, whole."""
    run = store.runs(local_runtime(home).metadata, case)[-1]
    ran = trace.executions(local_runtime(home).metadata, run.id)
    assert len(ran) >= 15
    with TestClient(create(home), "http://localhost") as client:
        for one in ran:
            text = client.get(f"/stages/{case}/{one.node}").text
            assert "cannot be read" not in text and "not there any more" not in text, one.node
            assert sources.stage(one.node, case), one.node


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_demos_transform_graph_is_told(pushed_home: Path, case: str) -> None:
    run = store.runs(local_runtime(pushed_home).metadata, case)[-1]
    command = [sys.executable, "-m", "tour.artifacts.transform", str(pushed_home), case, run.id]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    told = {one["title"]: one for one in json.loads(done.stdout)}
    assert told["Learnt numbers"]["rows"] and told["PCA spectrum"]["svg"].startswith("<svg")
