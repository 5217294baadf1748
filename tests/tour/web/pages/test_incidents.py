"""The page that breaks things, with quick incidents in place of the real ones: by HTTP, and each button in a browser."""

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
from support.edge_models import needs

from serving.browser import chromium
from serving.browser.chromium import Chromium
from tour.incidents.incident import (
    IncidentEvent,
    IncidentFailedError,
    LiveSystem,
    MissingPrerequisiteError,
    StagedIncident,
)
from tour.web import app as web

pytestmark = pytest.mark.system

TITLE = "<script>window.hurt = 1</script>"


def quick(live: LiveSystem) -> Iterator[IncidentEvent]:
    yield IncidentEvent("It is broken <b>now</b>.", "bad", {"number": 7})
    time.sleep(0.2)
    yield IncidentEvent("It is mended.", "good")


def fails(live: LiveSystem) -> Iterator[IncidentEvent]:
    yield IncidentEvent("Something begins.")
    raise IncidentFailedError("The system did not answer.")


def missing(live: LiveSystem) -> Iterator[IncidentEvent]:
    raise MissingPrerequisiteError("Nothing is served.")
    yield


def wrong(live: LiveSystem) -> Iterator[IncidentEvent]:
    yield IncidentEvent(str(1 / 0))


def incidents(**more: StagedIncident) -> dict[str, StagedIncident]:
    made = {
        "quick": StagedIncident("quick", TITLE, "Breaks it.", "Mends it.", quick, quick),
        "fails": StagedIncident("fails", "Fails", "Does not go well.", "Says why not.", fails, missing),
    }
    return made | more


@pytest.fixture
def app(tmp_path: Path) -> Any:
    made = web.create(tmp_path)
    made.state.incidents = incidents()
    return made


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line]


def test_every_incident_has_its_card_and_what_comes_from_outside_is_escaped(app: Any) -> None:
    text = TestClient(app, base_url="http://localhost").get("/break").text
    assert TITLE not in text and "&lt;script&gt;" in text and text.count("data-incident=") == 4
    assert "Nothing is served now" in text and "Mends it." in text


def test_the_real_incidents_are_all_there(tmp_path: Path) -> None:
    text = TestClient(web.create(tmp_path), base_url="http://localhost").get("/break").text
    for name in ("schema", "drift", "model", "worker", "server", "flood"):
        assert f'data-incident="{name}"' in text


def test_events_come_as_lines_and_the_last_says_how_it_ended(app: Any) -> None:
    client = TestClient(app, base_url="http://localhost")
    told = events(client.post("/break/quick").text)
    assert (
        [one["kind"] for one in told] == ["bad", "good", "end"] and told[0]["data"] == {"number": 7} and told[-1]["ok"]
    )
    told = events(client.post("/break/fails").text)
    assert told[1] == {"text": "The system did not answer.", "kind": "bad", "data": {}} and told[-1]["ok"] is False
    assert events(client.post("/break/fails?undo=true").text)[0]["text"] == "Nothing is served."
    assert client.post("/break/none").status_code == 404 and client.get("/break/quick").status_code == 405


def test_a_fault_of_an_incident_is_told_too(app: Any) -> None:
    app.state.incidents = incidents(wrong=StagedIncident("wrong", "Wrong", "", "", wrong, wrong))
    told = events(TestClient(app, base_url="http://localhost").post("/break/wrong").text)
    assert "ZeroDivisionError" in told[0]["text"] and not told[-1]["ok"]


def test_another_site_and_one_without_the_token_may_not(tmp_path: Path) -> None:
    app = web.create(tmp_path, token="secret")
    app.state.incidents = incidents()
    client = TestClient(app, base_url="http://localhost")
    assert client.post("/break/quick").status_code == 403
    assert client.post("/break/quick", headers={"x-tour-token": "secret", "origin": "http://evil"}).status_code == 403
    assert client.post("/break/quick", headers={"x-tour-token": "secret"}).status_code == 200


@pytest.fixture
def address(app: Any) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


def until(true: Callable[[], Any], seconds: float = 60) -> Any:
    ends = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < ends
        time.sleep(0.02)
    return found


def test_one_at_a_time_and_one_that_nobody_watches_goes_on_to_its_end(app: Any, address: str) -> None:
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(live: LiveSystem) -> Iterator[IncidentEvent]:
        try:
            yield IncidentEvent("It begins.")
            begun.set()
            go.wait(60)
            yield IncidentEvent("It goes on.")
        finally:
            ended.set()

    app.state.incidents = incidents(slow=StagedIncident("slow", "Slow", "", "", slow, slow))
    left = http.client.HTTPConnection(address)
    left.request("POST", "/break/slow")
    assert left.getresponse().readline()
    left.close()
    assert begun.wait(60)
    other = http.client.HTTPConnection(address)
    other.request("POST", "/break/quick")
    told = events(other.getresponse().read().decode())
    assert "Another incident is under way" in told[0]["text"] and not told[-1]["ok"]
    go.set()
    assert ended.wait(60)


def test_each_button_in_a_browser(address: str) -> None:
    needs(*chromium.PROGRAMS)
    with Chromium(f"http://{address}/break", height=1200) as page:
        for name, undo, shown, last in (
            ("quick", "", "answered", "It is mended."),
            ("quick", '[data-undo="true"]', "undone", "It is mended."),
            ("fails", "", "not done", "The system did not answer."),
            ("fails", '[data-undo="true"]', "not done", "Nothing is served."),
        ):
            pressed = f"document.querySelector('#{name} button{undo or ':not([data-undo])'}').click();"
            # In one go: an incident of no time at all may be over before the next question.
            still = "[...document.querySelectorAll('button[data-incident]')].every(one => one.disabled)"
            waiting = page.evaluate(f"{pressed} {still}")
            until(lambda: not page.evaluate("document.querySelector('button[data-incident]').disabled"))
            card = f"document.querySelector('#{name}')"
            assert waiting and page.evaluate(f"{card}.querySelector('.state').textContent") == shown
            assert page.evaluate(f"[...{card}.querySelectorAll('.words')].at(-1).textContent") == last
        first = page.evaluate("document.querySelector('#quick .words').textContent")
        assert first == "It is broken <b>now</b>." and page.evaluate("typeof window.hurt") == "undefined"
        assert page.console_errors == [] and all(one.startswith(f"http://{address}/") for one in page.requests)
        if folder := os.environ.get("SHOTS"):
            Path(folder, "break.png").write_bytes(page.screenshot())
