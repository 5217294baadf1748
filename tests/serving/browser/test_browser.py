"""The browser page in headless Chromium: outputs, requests, drawing and errors."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Error, Page
from support import edge_models
from support.browser import drag, read_errors, requests_only, wait_until
from support.command import start_showcase
from support.in_process import run_in_process

from serving.browser import chromium, site

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
def shared_page(browser: Browser, address: str) -> Page:
    """A page for tests that do not change it."""
    return open_site(browser.new_page(), address)


def open_site(page: Page, address: str) -> Page:
    page.goto(f"http://{address}/")
    assert page.evaluate("window.ready") == ["mixed", "lines"]
    return page


def run(page: Page, name: str, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    flat = {key: values.ravel().tolist() for key, values in rows.items()}
    outputs = page.evaluate(f"window.run('{name}', {json.dumps(flat)})")["outputs"]
    return {key: np.array(values) for key, values in outputs.items()}


def test_page_outputs_equal_numpy(shared_page: Page) -> None:
    for name, rows in (("mixed", edge_models.draw_mixed_rows), ("lines", edge_models.draw_line_rows)):
        inputs, expected = rows(60)
        outputs = run(shared_page, name, inputs)
        assert outputs.keys() == expected.keys()
        for key, values in expected.items():
            assert np.abs(outputs[key].reshape(values.shape) - values).max() < 1e-5, key


def test_page_requests_only_its_own_server_without_errors(page: Page, address: str) -> None:
    run(open_site(page, address), "lines", edge_models.draw_line_rows(2)[0])
    assert any(request.url.endswith(".wasm") for request in page.requests())
    assert requests_only(page, f"http://{address}/") and read_errors(page) == []


def test_content_security_policy_blocks_other_servers_and_eval(page: Page, address: str) -> None:
    open_site(page, address)
    with pytest.raises(Error, match="Failed to fetch"):
        page.evaluate("fetch('http://example.com/')")
    # Playwright's own evaluation is exempt from the policy, what the page runs later is not.
    page.evaluate("setTimeout(() => window.eval('window.evaluated = true'))")
    page.wait_for_event("pageerror", lambda error: "unsafe-eval" in error.message)
    assert page.evaluate("window.evaluated") is None
    assert any("Content Security Policy" in message for message in read_errors(page))


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
def test_inputs_that_do_not_fit_throw_an_error(shared_page: Page, name: str, rows: dict, message: str) -> None:
    with pytest.raises(Error, match=message):
        shared_page.evaluate(f"window.run('{name}', {json.dumps(rows)})")


def test_selected_sample_is_compared_with_the_saved_model(page: Page, address: str) -> None:
    open_site(page, address)
    decision = edge_models.draw_mixed_rows(3)[1]["decision"]
    for row in range(3):
        page.locator("#samples button").nth(row).click()
        wait_until(page, f"document.getElementById('raw').textContent.includes('{row}.25')")
        assert page.text_content("#verdict") == ("Stop this purchase." if decision[row] else "Let it pass.")
        assert float(page.text_content("#difference").rpartition(" ")[2]) < 1e-5
    assert "first" not in page.text_content("#raw") and "third" in page.text_content("#raw")


def test_drawing_is_classified(page: Page, address: str) -> None:
    open_site(page, address)
    page.evaluate("window.choose('lines')")
    x, y = page.evaluate("(r => [r.x, r.y])(document.getElementById('drawing').getBoundingClientRect())")
    for points, name in (([(30, 140), (250, 140)], "flat"), ([(140, 30), (140, 250)], "upright")):
        page.click("#clear")
        drag(page, [(x + u, y + v) for u, v in points])
        wait_until(page, f"document.getElementById('verdict').textContent === 'It is {name}.'")


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


def test_port_in_use_is_named_with_the_remedy(versions: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "Site", lambda versions: None)  # LiteRT.js may not be installed
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port} \(Address already in use\); choose another --port"):
            site.serve(versions, port)


def test_missing_browser_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="`apt-get install chromium`"), chromium.start():
        pass
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(FileNotFoundError, match="`pip install playwright`"), chromium.start():
        pass


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
