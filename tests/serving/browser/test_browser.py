"""The browser page in headless Chromium: outputs, requests, drawing and errors."""

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import edge_models
from support.command import start_showcase
from support.in_process import run_in_process

from components.training.edge import lite_exporter, one_row
from models.catalog import CASES
from serving.browser import chromium, site
from serving.browser.chromium import Chromium, PageError
from tour.evidence.context import Context
from tour.evidence.serving import edge_files

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pushed")
    return {
        "mixed": edge_models.build_version(edge_models.Mixed(), folder / "mixed", edge_models.draw_mixed_rows(3)),
        "lines": edge_models.build_version(
            edge_models.Lines(), folder / "lines", edge_models.draw_line_rows(3), edge_models.CLASSES
        ),
    }


@pytest.fixture(scope="module")
def address(versions: dict[str, Path]) -> Iterator[str]:
    edge_models.needs_litert_js()
    with site.create_server(site.Site(versions)) as http_server:
        threading.Thread(target=http_server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{http_server.server_port}"
        http_server.shutdown()


@pytest.fixture(scope="module")
def shared_page(address: str) -> Iterator[Chromium]:
    """A page for tests that do not change it."""
    edge_models.needs(*chromium.PROGRAMS)
    with Chromium(f"http://{address}/") as page:
        assert page.evaluate("window.ready") == ["mixed", "lines"]
        yield page


@pytest.fixture
def page(shared_page: Chromium, address: str) -> Chromium:
    """A new page for one test in the shared browser."""
    shared_page.reopen(f"http://{address}/")
    assert shared_page.evaluate("window.ready") == ["mixed", "lines"]
    return shared_page


def run(page: Chromium, name: str, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    flat = {key: values.ravel().tolist() for key, values in rows.items()}
    outputs = page.evaluate(f"window.run('{name}', {json.dumps(flat)})")["outputs"]
    return {key: np.array(values) for key, values in outputs.items()}


def text(page: Chromium, id_: str) -> str:
    return page.evaluate(f"document.getElementById('{id_}').textContent")


def until(page: Chromium, condition: str) -> None:
    promise = f"new Promise(done => {{ const look = () => ({condition}) ? done() : setTimeout(look, 20); look(); }})"
    page.evaluate(promise, 30)


def test_page_outputs_equal_numpy(shared_page: Chromium) -> None:
    for name, rows in (("mixed", edge_models.draw_mixed_rows), ("lines", edge_models.draw_line_rows)):
        inputs, expected = rows(60)
        outputs = run(shared_page, name, inputs)
        assert outputs.keys() == expected.keys()
        for key, values in expected.items():
            assert np.abs(outputs[key].reshape(values.shape) - values).max() < 1e-5, key


def test_page_requests_only_its_own_server_without_errors(page: Chromium, address: str) -> None:
    run(page, "lines", edge_models.draw_line_rows(2)[0])
    assert any(url.endswith(".wasm") for url in page.requests)
    assert all(url.startswith((f"http://{address}/", "data:")) for url in page.requests)
    assert page.console_errors == []


def test_content_security_policy_blocks_other_servers_and_eval(page: Chromium) -> None:
    with pytest.raises(PageError, match="Failed to fetch"):
        page.evaluate("fetch('http://example.com/')")
    with pytest.raises(PageError, match="EvalError"):
        page.evaluate("window.eval('1')")
    assert any("Content Security Policy" in message for message in page.console_errors)


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("mixed", {"ids": [1, 2, 3]}, "mixed takes ids, past, not ids."),
        ("mixed", {"ids": [1, 2, 3], "past": [0.0] * 8, "x": [1]}, "not ids, past, x."),
        ("mixed", {"ids": [1, 2], "past": [0.0] * 8}, "the same whole number of rows"),
        ("mixed", {"ids": [1] * 6, "past": [0.0] * 8}, "the same whole number of rows"),
        ("other", {}, "404"),
    ],
)
def test_inputs_that_do_not_fit_throw_an_error(shared_page: Chromium, name: str, rows: dict, message: str) -> None:
    with pytest.raises(PageError, match=message):
        shared_page.evaluate(f"window.run('{name}', {json.dumps(rows)})")


def test_selected_sample_is_compared_with_the_saved_model(page: Chromium) -> None:
    decision = edge_models.draw_mixed_rows(3)[1]["decision"]
    for row in range(3):
        page.evaluate(f"document.querySelectorAll('#samples button')[{row}].click()")
        until(page, f"document.getElementById('raw').textContent.includes('{row}.25')")
        assert text(page, "verdict") == ("Stop this purchase." if decision[row] else "Let it pass.")
        difference = float(text(page, "difference").rpartition(" ")[2])
        assert difference < 1e-5
    assert ("first" in text(page, "raw"), "third" in text(page, "raw")) == (False, True)


def test_drawing_is_classified(page: Chromium) -> None:
    page.evaluate("window.choose('lines')")
    x, y = page.evaluate("(r => [r.x, r.y])(document.getElementById('drawing').getBoundingClientRect())")
    for points, name in (([(30, 140), (250, 140)], "flat"), ([(140, 30), (140, 250)], "upright")):
        page.evaluate("document.getElementById('clear').click()")
        page.drag([(x + u, y + v) for u, v in points])
        until(page, f"document.getElementById('verdict').textContent === 'It is {name}.'")
    assert len(page.screenshot()) > 1000


def get(address: str, path: str, method: str = "GET") -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", address)
    connection.endheaders()
    response = connection.getresponse()
    return response.status, response.headers, response.read()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/page.js",
        "/litert/core.js",
        "/cases.json",
        "/cases/mixed/model.tflite",
        "/cases/lines/samples/2.json",
        "/page.js?x=1",
    ],
)
def test_existing_file_is_sent_with_the_content_security_policy(address: str, path: str) -> None:
    status, headers, content = get(address, path)
    assert status == 200 and len(content) == int(headers["Content-Length"]) > 0
    assert "default-src 'none'" in headers["Content-Security-Policy"] and headers["X-Content-Type-Options"] == "nosniff"
    assert get(address, path, "HEAD")[1]["Content-Length"] == headers["Content-Length"]
    assert get(address, path, "HEAD")[2] == b""


@pytest.mark.parametrize(
    "path",
    [
        "/../package.json",
        "/%2e%2e/package.json",
        "/package.json",
        "//etc/passwd",
        "/page.js/",
        "*",
        "/%00",
        "/cases/none/model.tflite",
        "/cases/mixed/../lines/model.tflite",
        "/cases/mixed/samples/3.json",
        "/cases/mixed/samples/-1.json",
        "/cases/mixed/samples/9999999.json",
    ],
)
def test_other_path_returns_404(address: str, path: str) -> None:
    assert get(address, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_method_returns_501(address: str, method: str) -> None:
    assert get(address, "/", method)[0] == 501


def test_missing_file_error_names_the_command(
    versions: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge_models.needs_litert_js()
    with pytest.raises(FileNotFoundError, match="has no one_row.tflite with samples; push .* `showcase run fraud`"):
        site.Site({"fraud": tmp_path})
    monkeypatch.setattr(site, "PACKAGES", tmp_path)
    with pytest.raises(FileNotFoundError, match="LiteRT.js is not installed; run `make browser`"):
        site.Site(versions)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="`apt-get install chromium`"):
        Chromium("http://127.0.0.1:1/")


def browser_processes() -> set[str]:
    """Ids of the browser processes that this process has started."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {pid for pid in children if "chrom" in Path(f"/proc/{pid}/comm").read_text()}


def test_browser_ends_if_the_page_cannot_be_loaded() -> None:
    edge_models.needs(*chromium.PROGRAMS)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    before = browser_processes()
    with pytest.raises(PageError, match="ERR_CONNECTION_REFUSED"):
        Chromium(f"http://127.0.0.1:{port}/")
    assert browser_processes() == before


def test_killed_browser_raises_an_error(address: str) -> None:
    edge_models.needs(*chromium.PROGRAMS)
    with Chromium(f"http://{address}/") as page:
        os.killpg(page._pid, signal.SIGKILL)
        with pytest.raises((PageError, BrokenPipeError)):
            page.evaluate("1")


def test_evaluation_times_out(shared_page: Chromium) -> None:
    with pytest.raises(TimeoutError):
        shared_page.evaluate("new Promise(() => 0)", 0.2)
    assert shared_page.evaluate("2 + 2") == 4


def test_reopened_page_has_separate_storage_and_logs(page: Chromium, address: str) -> None:
    page.evaluate("localStorage.setItem('visited', 'yes'); fetch('http://example.com/').catch(() => 0)")
    assert page.console_errors
    page.reopen(f"http://{address}/")
    assert page.evaluate("localStorage.getItem('visited')") is None
    assert page.console_errors == [] and page.requests.count(f"http://{address}/") == 1


def test_command_serves_the_newest_version_until_interrupted(versions: dict[str, Path], tmp_path: Path) -> None:
    edge_models.needs_litert_js()
    (tmp_path / "fraud").mkdir()
    (tmp_path / "fraud" / "versions").mkdir()
    for number in ("2", "10"):
        (tmp_path / "fraud" / "versions" / number).symlink_to(versions["mixed"])
    arguments = ("browser", "--port", "0", "--home", tmp_path)
    with start_showcase(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        url = process.stdout.readline().split()[0]
        cases = json.loads(get(url.removeprefix("http://").rstrip("/"), "/cases.json")[2])
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, process.stderr.read()
    assert [(case["name"], case["version"]) for case in cases] == [("fraud", "10")]


@pytest.mark.parametrize("arguments", [(), ("fraud",)])
def test_command_without_a_pushed_version_exits_with_code_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = run_in_process("browser", *arguments, "--port", 0, "--home", tmp_path)
    assert result.returncode == 2 and "No version of fraud is pushed" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_page_agrees_with_the_saved_model_on_a_thousand_inputs(pushed_home: Path, case: str, tmp_path: Path) -> None:
    edge_models.needs_litert_js()
    edge_models.needs(*chromium.PROGRAMS)
    context = Context.of(pushed_home, case)
    rows, score = edge_models.load_thousand_rows(context), context.case.load("model").SCORE
    expected = lite_exporter.run_saved_model(str(context.served), rows)
    started = time.monotonic()
    outputs = edge_files.answer_in_browser(context, rows)
    difference = max(
        float(np.abs(outputs[name].reshape(values.shape) - values).max())
        for name, values in expected.items()
        if name != "decision"
    )
    print(case, "one_row.tflite in the browser against the SavedModel", difference, time.monotonic() - started)
    assert difference <= context.settings["gates"]["lite_tolerance"]
    # The chosen variant for one row differs from the SavedModel at most by its own quantisation error (in Python).
    chosen = json.loads((context.artifact("lite_model") / "lite.json").read_text())["chosen"]
    one_row.save(str(context.served), str(tmp_path / "narrow"))
    model = tmp_path / "chosen.tflite"
    int32_rows = {
        name: values.astype(np.int32) if values.dtype == np.int64 else values for name, values in rows.items()
    }
    model.write_bytes(lite_exporter.convert(str(tmp_path / "narrow"), chosen, int32_rows))
    python_outputs, _ = lite_exporter.run_variant(model.read_bytes(), rows)
    browser_scores = edge_files.answer_in_browser(context, rows, model)[score].reshape(python_outputs[score].shape)
    print(
        case,
        chosen,
        "for one row in the browser against Python",
        float(np.abs(browser_scores - python_outputs[score]).max()),
        "against the SavedModel",
        float(np.abs(browser_scores - expected[score]).max()),
        "Python against the SavedModel",
        float(np.abs(python_outputs[score] - expected[score]).max()),
    )
    assert (
        np.abs(browser_scores - expected[score]).max()
        <= 1.5 * np.abs(python_outputs[score] - expected[score]).max() + 1e-4
    )
