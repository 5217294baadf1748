"""The Try page: one request by a real gateway and by LiteRT in Python, and what is said if one is missing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from support import edge_models
from support.gateway_case import PURCHASE
from support.shown_home import HOSTILE
from support.shown_kinds import TagParser
from support.tried_home import create_tensor_process, flatten_first_row

from serving.browser import site
from tour.web import trial
from tour.web.app import create
from tour.web.pages import try_it

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def client(tried_home: Path, tried_gateway: str) -> Iterator[TestClient]:
    app = create(tried_home, tried_gateway)
    app.state.beside = create_tensor_process(tried_home, edge_models.draw_mixed_rows(3)[0])
    with TestClient(app, "http://localhost") as made:
        yield made


def test_a_purchase_is_scored_and_answered_by_litert_in_python(client: TestClient) -> None:
    scored = client.post("/try/fraud/score", json=PURCHASE | {"transaction_id": "try-1"}).json()
    assert scored["answer"]["score"] == pytest.approx(0.11) and scored["milliseconds"] > 0
    lite = client.post("/try/fraud/lite", json={"prediction_id": scored["answer"]["prediction_id"]}).json()
    given, expected = edge_models.draw_mixed_rows(3)
    assert lite["inputs"] == flatten_first_row(given) and (lite["version"], lite["tolerance"]) == (2, 1e-4)
    assert lite["python"]["total"] == pytest.approx(expected["total"][0].tolist(), abs=1e-5)
    assert lite["server"]["score"] == pytest.approx([scored["answer"]["score"]]) and lite["microseconds"] > 0


@pytest.mark.parametrize(
    ("place", "body", "status"),
    [
        ("/try/nobody/score", {}, 404),
        ("/try/fraud/score", {"amount": -1}, 422),
        ("/try/fraud/score", {"x": "y" * 300_000}, 413),
        ("/try/fraud/lite", {}, 422),
        ("/try/fraud/lite", [], 422),
        ("/try/fraud/lite", {"prediction_id": "../../x"}, 404),
        ("/try/fraud/lite", {"prediction_id": "image.1.0.00000000"}, 404),
        ("/try/nobody/lite", {}, 404),
        ("/try/fraud/lite", {"prediction_id": "fraud.7.0.00000000"}, 404),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(client: TestClient, place: str, body: Any, status: int) -> None:
    answer = client.post(place, json=body, headers={"accept": "application/json"})
    assert answer.status_code == status and answer.json()["error"]


@pytest.mark.parametrize(
    "place",
    [
        "/try/nobody",
        "/litert/../package.json",
        "/litert/%2e%2e/%2e%2e/package.json",
        "/litert/nothing.js",
        "/cases/fraud/model.tflite",
        "/cases/fraud@9/model.tflite",
        "/cases/..%2ffraud@2/model.tflite",
        "/cases/fraud@2/model.json",
        "/cases/nobody@2/model.tflite",
    ],
)
def test_nothing_else_can_be_asked_for(client: TestClient, place: str) -> None:
    assert client.get(place).status_code == 404


def test_another_site_may_not_send_a_request(client: TestClient) -> None:
    assert client.post("/try/fraud/score", json=PURCHASE, headers={"origin": "http://evil.example"}).status_code == 403


def test_the_pages_own_policy_lets_webassembly_run_and_nothing_from_elsewhere(client: TestClient) -> None:
    edge_models.needs_litert_js()
    policy = client.get("/try/fraud").headers["content-security-policy"]
    assert "wasm-unsafe-eval" in policy and "default-src 'none'" in policy and "unsafe-inline" not in policy
    assert client.get("/litert/core.js").status_code == client.get("/model.js").status_code == 200
    assert client.get("/cases/fraud@2/model.tflite").content[4:8] == b"TFL3"


def test_what_is_missing_is_said_with_the_command_that_brings_it(
    tried_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "PACKAGES", tmp_path)
    with TestClient(create(tried_home), "http://localhost") as client:
        text = client.get("/try").text
        assert "showcase serve --home" in text and "make browser" in text and 'type="importmap"' not in text
        answer = client.post("/try/fraud/score", json=PURCHASE)
        assert answer.status_code == 503 and "showcase serve" in answer.text
    with TestClient(create(tmp_path, "127.0.0.1:9"), "http://localhost") as client:
        assert "Nothing of fraud has been pushed: `showcase run fraud" in client.get("/try").text.replace("&#39;", "'")
        assert client.post("/try/fraud/score", json=PURCHASE).status_code == 502


def test_nothing_from_data_becomes_markup(tried_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"transaction_id": HOSTILE, "amount": 1.0, "category": HOSTILE, HOSTILE: "x"}
    begin = trial.Start((row,), (row,), None, "transaction_id", {"category": (HOSTILE, '"><script>')}, 1)
    monkeypatch.setattr(try_it.trial, "start", lambda home, case: begin)
    with TestClient(create(tried_home), "http://localhost") as client:
        text = client.get("/try/fraud").text
    tags = TagParser(text).found
    assert HOSTILE not in text
    assert not [name for name, held in tags if name == "img" or any(key.startswith("on") for key in held)]
    assert [held.get("type") for name, held in tags if name == "script" and "src" not in held] in ([], ["importmap"])
