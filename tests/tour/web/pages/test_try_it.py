"""The Try page: a request answered by a real gateway and by LiteRT in Python, and its messages if one is missing."""

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
from tour.web.application import create_app
from tour.web.pages import try_it

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def client(tried_home: Path, tried_gateway: str) -> Iterator[TestClient]:
    app = create_app(tried_home, tried_gateway)
    app.state.lite_comparer = create_tensor_process(tried_home, edge_models.draw_mixed_rows(3)[0])
    with TestClient(app, "http://localhost") as opened:
        yield opened


def test_purchase_is_answered_by_the_gateway_and_by_litert_in_python(client: TestClient) -> None:
    scored = client.post("/try/fraud/score", json=PURCHASE | {"transaction_id": "try-1"}).json()
    assert scored["answer"]["score"] == pytest.approx(0.11) and scored["milliseconds"] > 0
    lite = client.post("/try/fraud/lite", json={"prediction_id": scored["answer"]["prediction_id"]}).json()
    inputs, expected = edge_models.draw_mixed_rows(3)
    assert lite["inputs"] == flatten_first_row(inputs) and (lite["version"], lite["tolerance"]) == (2, 1e-4)
    assert lite["python"]["total"] == pytest.approx(expected["total"][0].tolist(), abs=1e-5)
    assert lite["server"]["score"] == pytest.approx([scored["answer"]["score"]]) and lite["microseconds"] > 0


@pytest.mark.parametrize(
    ("path", "body", "status"),
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
def test_invalid_request_is_refused_with_a_message(client: TestClient, path: str, body: Any, status: int) -> None:
    answer = client.post(path, json=body, headers={"accept": "application/json"})
    assert answer.status_code == status and answer.json()["error"]


@pytest.mark.parametrize(
    "path",
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
def test_unknown_case_model_or_file_is_not_found(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_request_from_another_site_is_refused(client: TestClient) -> None:
    assert client.post("/try/fraud/score", json=PURCHASE, headers={"origin": "http://evil.example"}).status_code == 403


def test_policy_of_the_page_allows_webassembly_and_no_external_resource(client: TestClient) -> None:
    edge_models.needs_litert_js()
    policy = client.get("/try/fraud").headers["content-security-policy"]
    assert "wasm-unsafe-eval" in policy and "default-src 'none'" in policy and "unsafe-inline" not in policy
    assert client.get("/litert/core.js").status_code == client.get("/model.js").status_code == 200
    assert client.get("/cases/fraud@2/model.tflite").content[4:8] == b"TFL3"


def test_missing_program_is_reported_with_the_command_to_run(
    tried_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "PACKAGES", tmp_path)
    with TestClient(create_app(tried_home), "http://localhost") as client:
        text = client.get("/try").text
        assert "showcase serve --home" in text and "make browser" in text and 'type="importmap"' not in text
        answer = client.post("/try/fraud/score", json=PURCHASE)
        assert answer.status_code == 503 and "showcase serve" in answer.text
    with TestClient(create_app(tmp_path, "127.0.0.1:9"), "http://localhost") as client:
        assert "No model of fraud has been pushed; `showcase run fraud" in client.get("/try").text.replace("&#39;", "'")
        assert client.post("/try/fraud/score", json=PURCHASE).status_code == 502


def test_data_is_escaped(tried_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"transaction_id": HOSTILE, "amount": 1.0, "category": HOSTILE, HOSTILE: "x"}
    form_rows = trial.FormRows((row,), (row,), None, "transaction_id", {"category": (HOSTILE, '"><script>')}, 1)
    monkeypatch.setattr(try_it.trial, "load_form_rows", lambda home, case: form_rows)
    with TestClient(create_app(tried_home), "http://localhost") as client:
        text = client.get("/try/fraud").text
    tags = TagParser(text).found
    assert HOSTILE not in text
    assert not [name for name, attrs in tags if name == "img" or any(key.startswith("on") for key in attrs)]
    assert [attrs.get("type") for name, attrs in tags if name == "script" and "src" not in attrs] in ([], ["importmap"])
