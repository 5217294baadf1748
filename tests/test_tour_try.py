"""The Try page: one request by a real gateway, by LiteRT in Python and in a browser, and what is said if one is missing."""

import asyncio
import io
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import edge_models
import numpy as np
import pytest
from fastapi.testclient import TestClient
from gateway_case import PURCHASE, opened
from PIL import Image
from programs import needs
from shown_home import HOSTILE, RUN, shown
from test_bundle import Tags
from test_collected import purchase
from test_tour_pages import until
from tour_server import touring

from models.fraud import collected
from pipeline import runtime, store
from serving import http
from serving.browser import chromium, site
from serving.browser.chromium import Chromium
from serving.gateway.wire import entry, example
from tour.web import dense, tryit, tryout
from tour.web.app import create

# In place of TensorFlow: the inputs of the first row that the small models know.
WORKER = """
import json, sys
inputs = json.loads(sys.argv[1])
for line in sys.stdin:
    asked = json.loads(line)
    assert asked["graph"].endswith("transform_graph") and asked["record"]
    print(json.dumps({"inputs": inputs}), flush=True)
"""


def flat(arrays: dict[str, np.ndarray]) -> dict[str, list[float]]:
    return {name: values[0].ravel().tolist() for name, values in arrays.items()}


def small(home: Path, case: str, module: Any, rows: tuple, classes: tuple[str, ...] = ()) -> None:
    """Version 2 of a case is a small model of which NumPy knows every answer."""
    version = edge_models.version(module, home / "made" / case, rows, classes)
    target = Path(runtime.local(home).versions(case), "2")
    target.parent.mkdir(parents=True, exist_ok=True)
    version.rename(target)
    settings = {"classes": ",".join(classes), "height": 8, "width": 8, "channels": 1}
    told = {"operating_point": {"threshold": 0.5}, "settings": settings}
    (target / "assets.extra" / "model.json").write_text(json.dumps(told))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shown(tmp_path_factory.mktemp("tried"))
    path = runtime.local(folder).metadata
    run = store.runs(path, "fraud")[0]
    settings = json.dumps({"data": {"columns": "", "label_delay_days": 7}, "gates": {"lite_tolerance": 1e-4}})
    source = folder / "purchases"
    odd = purchase(9, label=1)
    odd["journal"] = [*odd["journal"][:4], 5000.0]
    rows = [*(purchase(n) for n in range(5)), purchase(8, label=1), odd]
    collected.write(source / "span-001", rows, {"columns": ""})
    facts = run.facts | {"source": str(source), "spans": "1:1", "settings": settings}
    store.save(path, store.Run(RUN, "fraud", "pushed", "", "f", facts))
    for label, grey in (("flat", 90), ("upright", 200), ("third", 20)):
        (folder / "digits" / "span-000" / label).mkdir(parents=True)
        stream = io.BytesIO()
        Image.fromarray(np.full((8, 8), grey, np.uint8)).save(stream, "PNG")
        (folder / "digits" / "span-000" / label / "one.png").write_bytes(stream.getvalue())
    facts |= {"source": str(folder / "digits"), "spans": "0:0"}
    store.save(path, store.Run("image-1", "image", "pushed", "", "f", facts))
    small(folder, "fraud", edge_models.Mixed(), edge_models.mixed(3))
    small(folder, "image", edge_models.Lines(), edge_models.lines(3), edge_models.CLASSES)
    return folder


@contextmanager
def answering(home: Path) -> Iterator[str]:
    """A gateway over HTTP; gives its address."""
    up, over, found = threading.Event(), [], []

    async def main() -> None:
        async with opened(home) as (gateway, _):
            server = await http.serve(gateway, "127.0.0.1", 0)
            found.append(f"127.0.0.1:{server.port}")
            over.append((asyncio.get_running_loop(), asyncio.Event()))
            up.set()
            await over[0][1].wait()
            await server.close()

    thread = threading.Thread(target=lambda: http.run(main()))
    thread.start()
    try:
        assert up.wait(30)
        yield found[0]
    finally:
        loop, event = over[0]
        loop.call_soon_threadsafe(event.set)
        thread.join(30)


def beside(home: Path, given: dict[str, np.ndarray], worker: str = WORKER) -> tryout.Beside:
    made = tryout.Beside(home)
    made.command = [sys.executable, "-c", worker, json.dumps(flat(given))]
    return made


@pytest.fixture(scope="module")
def gateway(home: Path) -> Iterator[str]:
    with answering(home) as address:
        yield address


@pytest.fixture(scope="module")
def client(home: Path, gateway: str) -> Iterator[TestClient]:
    app = create(home, gateway)
    app.state.beside = beside(home, edge_models.mixed(3)[0])
    with TestClient(app, "http://localhost") as made:
        yield made


def test_the_form_begins_with_rows_of_the_newest_span_the_oddest_first(home: Path) -> None:
    begin = tryout.start(home, "fraud")
    assert (begin.span, begin.key, begin.problem) == (1, "transaction_id", "")
    assert [row["amount"] for row in begin.odd] == [5000.0, 10.07] and len(begin.usual) == 5
    assert begin.choices == {}  # one value is no choice, and one that never comes again is none either
    pictures = tryout.start(home, "image")
    assert set(pictures.every) == {"flat", "upright", "third"} and pictures.key == "key"


def test_a_purchase_is_scored_and_answered_by_litert_in_python(client: TestClient) -> None:
    scored = client.post("/try/fraud/score", json=PURCHASE | {"transaction_id": "try-1"}).json()
    assert scored["answer"]["score"] == pytest.approx(0.11) and scored["milliseconds"] > 0
    lite = client.post("/try/fraud/lite", json={"prediction_id": scored["answer"]["prediction_id"]}).json()
    given, expected = edge_models.mixed(3)
    assert lite["inputs"] == flat(given) and (lite["version"], lite["tolerance"]) == (2, 1e-4)
    assert lite["python"]["total"] == pytest.approx(expected["total"][0].tolist(), abs=1e-5)
    assert lite["server"]["score"] == pytest.approx([scored["answer"]["score"]]) and lite["microseconds"] > 0


@pytest.mark.parametrize(
    ("place", "body", "status"),
    [
        ("/try/nobody/score", {}, 404), ("/try/fraud/score", {"amount": -1}, 422),
        ("/try/fraud/score", {"x": "y" * 300_000}, 413),
        ("/try/fraud/lite", {}, 422), ("/try/fraud/lite", [], 422), ("/try/fraud/lite", {"prediction_id": "../../x"}, 404),
        ("/try/fraud/lite", {"prediction_id": "image.1.0.00000000"}, 404), ("/try/nobody/lite", {}, 404),
        ("/try/fraud/lite", {"prediction_id": "fraud.7.0.00000000"}, 404),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_a_sentence(client: TestClient, place: str, body: Any, status: int) -> None:
    answer = client.post(place, json=body, headers={"accept": "application/json"})
    assert answer.status_code == status and answer.json()["error"]


@pytest.mark.parametrize(
    "place",
    ["/try/nobody", "/litert/../package.json", "/litert/%2e%2e/%2e%2e/package.json", "/litert/nothing.js",
     "/cases/fraud/model.tflite", "/cases/fraud@9/model.tflite", "/cases/..%2ffraud@2/model.tflite",
     "/cases/fraud@2/model.json", "/cases/nobody@2/model.tflite"],
)  # fmt: skip
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
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "PACKAGES", tmp_path)
    with TestClient(create(home), "http://localhost") as client:
        text = client.get("/try").text
        assert "showcase serve --home" in text and "make browser" in text and 'type="importmap"' not in text
        answer = client.post("/try/fraud/score", json=PURCHASE)
        assert answer.status_code == 503 and "showcase serve" in answer.text
    with TestClient(create(tmp_path, "127.0.0.1:9"), "http://localhost") as client:
        assert "Nothing of fraud has been pushed: `showcase run fraud" in client.get("/try").text.replace("&#39;", "'")
        assert client.post("/try/fraud/score", json=PURCHASE).status_code == 502


def test_a_process_that_ends_is_told_and_the_next_request_has_a_new_one(home: Path) -> None:
    async def work() -> None:
        made = beside(home, edge_models.mixed(3)[0], "import sys; sys.exit(3)")
        for _ in range(2):
            with pytest.raises((ValueError, ConnectionError)):
                await made._dense(Path("transform_graph"), b"x")
        made.command = beside(home, edge_models.mixed(3)[0]).command
        assert await made._dense(Path("transform_graph"), b"x") == flat(edge_models.mixed(3)[0])
        made.command = [sys.executable, "-c", "print('{\"error\": \"no graph\"}')"]
        await made.close()
        with pytest.raises(ValueError, match="cannot be applied: no graph"):
            await made._dense(Path("transform_graph"), b"x")
        await made.close()

    asyncio.run(work())


def test_tensors_come_of_what_a_request_has_by_the_models_own_graph() -> None:
    import tensorflow as tf

    class Doubled:
        raw = {"amount": tf.io.FixedLenFeature([1], tf.float32), "is_fraud": tf.io.FixedLenFeature([1], tf.int64)}

        def apply(self, raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {f"{name}_twice": 2 * value for name, value in raw.items()}

    record = example(entry("amount", 1.5), entry("served/id", "x"))
    assert dense.tensors(Doubled(), record) == {"amount_twice": [3.0]}


def test_nothing_from_data_becomes_markup(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"transaction_id": HOSTILE, "amount": 1.0, "category": HOSTILE, HOSTILE: "x"}
    begin = tryout.Start((row,), (row,), None, "transaction_id", {"category": (HOSTILE, '"><script>')}, 1)
    monkeypatch.setattr(tryit.tryout, "start", lambda home, case: begin)
    with TestClient(create(home), "http://localhost") as client:
        text = client.get("/try/fraud").text
    tags = Tags(text).found
    assert HOSTILE not in text
    assert not [name for name, held in tags if name == "img" or any(key.startswith("on") for key in held)]
    assert [held.get("type") for name, held in tags if name == "script" and "src" not in held] in ([], ["importmap"])


@pytest.fixture
def browser(home: Path, gateway: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The tour's address, with a gateway, over small models; the server's outputs are NumPy's of the same tensors."""
    needs(*chromium.PROGRAMS)
    edge_models.needs_litert_js()
    known = {"fraud": edge_models.mixed(3), "image": edge_models.lines(3)}

    async def answer(self: tryout.Beside, case: str, identity: str) -> tryout.Answered:
        given, expected = known[case]
        names = edge_models.CLASSES if case == "image" else ()
        return tryout.Answered(2, flat(given), flat(expected), flat(expected), 7.0, 1e-4, names)

    monkeypatch.setattr(tryout.Beside, "answer", answer)
    app = create(home, gateway)
    app.state.beside = beside(home, known["fraud"][0])
    with touring(app) as address:
        yield address


def equal(page: Chromium) -> str:
    until(page, "document.querySelector('#equal').dataset.equal")
    return page.evaluate("document.querySelector('#equal').textContent")


def test_a_digit_is_drawn_and_a_sample_chosen_in_a_browser(browser: str) -> None:
    with Chromium(f"{browser}/try/image") as page:
        until(page, "window.ready")
        x, y = page.evaluate("(r => [r.x, r.y])(document.getElementById('drawing').getBoundingClientRect())")
        page.drag([(x + 60, y + 60), (x + 200, y + 60), (x + 120, y + 230)])
        assert equal(page).startswith("Equal: the largest difference from the server is 0.0e+0 in Python and ")
        assert "It is" in page.evaluate("document.querySelector('#verdict').textContent")
        assert page.evaluate("document.querySelector('#answers').tBodies[0].rows.length") == 4
        link = page.evaluate("document.querySelector('#trail').getAttribute('href')")
        page.evaluate("document.querySelector('#clear').click()")
        page.evaluate("document.querySelector('#equal').removeAttribute('data-equal')")
        page.evaluate("document.querySelector('[data-label=upright]').click()")
        equal(page)
        assert page.evaluate("document.querySelector('#trail').getAttribute('href')") != link
        page.evaluate("document.querySelector('#send').click()")
        until(page, "document.querySelector('#verdict').textContent.startsWith('Draw something')")
        assert page.complaints == [] and all(url.startswith((browser, "data:")) for url in page.requests)


def test_a_purchase_is_sent_with_presets_in_a_browser(browser: str) -> None:
    with Chromium(f"{browser}/try/fraud") as page:
        until(page, "window.ready")
        page.evaluate("document.querySelector('[data-preset=odd]').click()")
        assert page.evaluate("document.querySelector('#f-amount').value") == "5000"
        page.evaluate("document.querySelector('[data-preset=usual]').click()")
        page.evaluate("document.querySelector('#f-amount').value = 700")
        page.evaluate("document.querySelector('#send').click()")
        assert equal(page).startswith("Equal")
        assert page.evaluate("document.querySelector('#verdict').textContent") == "Stop this purchase."
        first = page.evaluate("document.querySelector('#f-transaction_id').value")
        page.evaluate("document.querySelector('#f-amount').value = -4")
        page.evaluate("document.querySelector('#send').click()")
        until(page, "document.querySelector('#verdict').textContent.startsWith('No answer: ')")
        assert page.evaluate("document.querySelector('#f-transaction_id').value") != first
        # A refused request is a failed load to the browser, and that alone.
        assert all("422" in one for one in page.complaints) and len(page.complaints) == 1
        assert all(url.startswith((browser, "data:")) for url in page.requests)
