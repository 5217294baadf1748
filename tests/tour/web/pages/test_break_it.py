"""The page Break it live with fakes of the incidents: over HTTP, and each button in a browser."""

import http.client
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient
from playwright.sync_api import Page
from support.browser import read_errors, requests_only

from tour.incidents.incident import (
    IncidentEvent,
    IncidentFailedError,
    LiveSystem,
    MissingPrerequisiteError,
    StagedIncident,
)
from tour.web import application as web

pytestmark = pytest.mark.system

TITLE = "<script>window.hurt = 1</script>"


def break_quickly(live: LiveSystem) -> Iterator[IncidentEvent]:
    yield IncidentEvent("It is broken <b>now</b>.", "bad", {"number": 7})
    time.sleep(0.2)
    yield IncidentEvent("It is repaired.", "good")


def fail(live: LiveSystem) -> Iterator[IncidentEvent]:
    yield IncidentEvent("Something begins.")
    raise IncidentFailedError("The system did not answer.")


def report_missing(live: LiveSystem) -> Iterator[IncidentEvent]:
    raise MissingPrerequisiteError("Nothing is served.")
    yield


def raise_bug(live: LiveSystem) -> Iterator[IncidentEvent]:
    yield IncidentEvent(str(1 / 0))


def fake_incidents(**more: StagedIncident) -> dict[str, StagedIncident]:
    fakes = {
        "quick": StagedIncident("quick", TITLE, "Breaks it.", "Repairs it.", break_quickly, break_quickly),
        "fails": StagedIncident("fails", "Fails", "Does not go well.", "Gives the reason.", fail, report_missing),
    }
    return fakes | more


@pytest.fixture
def app(tmp_path: Path) -> Any:
    application = web.create_app(tmp_path)
    application.state.incidents = fake_incidents()
    return application


def parse_events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line]


def test_every_incident_has_a_card_with_escaped_text(app: Any) -> None:
    text = TestClient(app, base_url="http://localhost").get("/break").text
    assert TITLE not in text and "&lt;script&gt;" in text and text.count("data-incident=") == 4
    assert "No gateway is running" in text and "Repairs it." in text


def test_page_lists_all_incidents(tmp_path: Path) -> None:
    text = TestClient(web.create_app(tmp_path), base_url="http://localhost").get("/break").text
    for name in ("schema", "drift", "model", "worker", "server", "flood"):
        assert f'data-incident="{name}"' in text


def test_events_are_streamed_as_lines_and_the_last_has_the_result(app: Any) -> None:
    client = TestClient(app, base_url="http://localhost")
    events = parse_events(client.post("/break/quick").text)
    assert [event["kind"] for event in events] == ["bad", "good", "end"]
    assert events[0]["data"] == {"number": 7} and events[-1]["ok"]
    events = parse_events(client.post("/break/fails").text)
    assert events[1] == {"text": "The system did not answer.", "kind": "bad", "data": {}}
    assert events[-1]["ok"] is False
    assert parse_events(client.post("/break/fails?undo=true").text)[0]["text"] == "Nothing is served."
    assert client.post("/break/none").status_code == 404 and client.get("/break/quick").status_code == 405


def test_bug_in_an_incident_is_reported(app: Any) -> None:
    app.state.incidents = fake_incidents(wrong=StagedIncident("wrong", "Wrong", "", "", raise_bug, raise_bug))
    events = parse_events(TestClient(app, base_url="http://localhost").post("/break/wrong").text)
    assert "ZeroDivisionError" in events[0]["text"] and not events[-1]["ok"]


def test_incident_needs_the_token_and_the_tours_origin(tmp_path: Path) -> None:
    app = web.create_app(tmp_path, token="secret")
    app.state.incidents = fake_incidents()
    client = TestClient(app, base_url="http://localhost")
    assert client.post("/break/quick").status_code == 403
    assert client.post("/break/quick", headers={"x-tour-token": "secret", "origin": "http://evil"}).status_code == 403
    assert client.post("/break/quick", headers={"x-tour-token": "secret"}).status_code == 200


@pytest.fixture
def address(app: Any) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def test_incidents_run_one_at_a_time_and_to_their_end_without_a_client(app: Any, address: str) -> None:
    started, resume, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(live: LiveSystem) -> Iterator[IncidentEvent]:
        try:
            yield IncidentEvent("It begins.")
            started.set()
            resume.wait(60)
            yield IncidentEvent("It goes on.")
        finally:
            ended.set()

    app.state.incidents = fake_incidents(slow=StagedIncident("slow", "Slow", "", "", slow, slow))
    first = http.client.HTTPConnection(address)
    first.request("POST", "/break/slow")
    assert first.getresponse().readline()
    first.close()
    assert started.wait(60)
    second = http.client.HTTPConnection(address)
    second.request("POST", "/break/quick")
    events = parse_events(second.getresponse().read().decode())
    assert "Another incident is under way" in events[0]["text"] and not events[-1]["ok"]
    resume.set()
    assert ended.wait(60)


def test_buttons_show_their_events_in_a_browser(page: Page, address: str) -> None:
    page.goto(f"http://{address}/break")
    for name, undo, shown, last in (
        ("quick", "", "done", "It is repaired."),
        ("quick", '[data-undo="true"]', "undone", "It is repaired."),
        ("fails", "", "failed", "The system did not answer."),
        ("fails", '[data-undo="true"]', "failed", "Nothing is served."),
    ):
        press = f"document.querySelector('#{name} button{undo or ':not([data-undo])'}').click();"
        # In a single evaluation, because a quick incident may end before the next one.
        disabled = "[...document.querySelectorAll('button[data-incident]')].every(button => button.disabled)"
        waiting = page.evaluate(f"{press} {disabled}")
        wait_for(lambda: not page.evaluate("document.querySelector('button[data-incident]').disabled"))
        card = f"document.querySelector('#{name}')"
        assert waiting and page.evaluate(f"{card}.querySelector('.state').textContent") == shown
        assert page.evaluate(f"[...{card}.querySelectorAll('.words')].at(-1).textContent") == last
    first = page.evaluate("document.querySelector('#quick .words').textContent")
    assert first == "It is broken <b>now</b>." and page.evaluate("typeof window.hurt") == "undefined"
    assert read_errors(page) == [] and requests_only(page, f"http://{address}/")
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=Path(folder, "break.png"), full_page=True)
