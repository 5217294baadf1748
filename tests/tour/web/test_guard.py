"""Requests that the tour refuses, and the command that starts it."""

import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from support.command import ROOT
from support.in_process import run_in_process

from tour.web import command
from tour.web.application import create_app

BASE, URL = "http://127.0.0.1:8600", "/questions/A1/evidence/stop"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(tmp_path, hosts=("showcase.example",)), base_url=BASE) as opened:
        yield opened


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(tmp_path, token="a-token"), base_url=BASE) as opened:
        yield opened


@pytest.mark.parametrize(
    "path", ["/", "/questions", "/questions/A1", "/rehearse", "/presenter", "/static/tour.js", "/nothing"]
)
def test_every_response_has_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    policy = headers["content-security-policy"]
    assert (
        "default-src 'none'" in policy
        and "script-src 'self';" in policy
        and "unsafe" not in policy
        and "frame-ancestors 'none'" in policy
    )


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8600", "127.0.0.1.evil.example", "", "a:b:c", "[::1", "localhost.evil"]
)
def test_unknown_host_name_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 400


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8600", "127.0.0.1:9", "[::1]:8600", "192.168.1.7", "SHOWCASE.example"]
)
def test_ip_address_localhost_and_configured_host_are_allowed(client: TestClient, host: str) -> None:
    assert client.get("/presenter", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8601"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": BASE, "sec-fetch-site": "cross-site"},
    ],
)
def test_post_from_another_site_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post(URL, headers=headers, follow_redirects=False).status_code == 403
    assert client.get("/", headers=headers).status_code == 200


def test_post_from_the_tour_itself_is_allowed(client: TestClient) -> None:
    for headers in ({}, {"origin": BASE}, {"origin": BASE, "sec-fetch-site": "same-origin"}):
        assert client.post(URL, headers=headers, follow_redirects=False).status_code == 303


def test_post_needs_the_token_if_there_is_one(guarded: TestClient) -> None:
    assert guarded.get("/").status_code == 200
    assert guarded.post(URL, follow_redirects=False).status_code == 403
    assert guarded.post(URL, headers={"x-tour-token": "another"}, follow_redirects=False).status_code == 403
    assert (
        guarded.post(URL, headers={"cookie": "tour_token=\xe9".encode("latin-1")}, follow_redirects=False).status_code
        == 403
    )
    assert guarded.post(URL, headers={"x-tour-token": "a-token"}, follow_redirects=False).status_code == 303


def test_token_in_the_url_is_stored_as_cookie_and_removed_from_the_url(guarded: TestClient) -> None:
    answer = guarded.get("/questions?q=a&token=a-token", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/questions?q=a")
    assert "HttpOnly" in answer.headers["set-cookie"] and "SameSite=strict" in answer.headers["set-cookie"]
    assert guarded.post(URL, follow_redirects=False).status_code == 303
    assert "set-cookie" not in guarded.get("/?token=wrong").headers


def test_redirect_stays_on_the_tour(guarded: TestClient) -> None:
    for path in ("//evil.example/", "/%0d%0aset-cookie:x=1", "/%5cevil.example"):
        location = guarded.get(f"{path}?token=a-token", follow_redirects=False).headers.get("location", "/")
        assert location.startswith("/") and not location.startswith(("//", "/\\")) and "\r" not in location


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/app.py",
        "/static/%00",
        "/static/",
        "/%2e%2e/%2e%2e/etc/passwd",
    ],
)
def test_path_outside_the_static_files_is_refused(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (400, 404) and "import" not in answer.text and "root:" not in answer.text


def test_missing_page_shows_the_path_escaped(client: TestClient) -> None:
    answer = client.get("/<script>x", headers={"accept": "text/html"})
    assert answer.status_code == 404 and "There is no page at" in answer.text and "<script>x" not in answer.text


def test_only_loopback_addresses_are_loopback() -> None:
    assert all(map(command.is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(command.is_loopback, ("0.0.0.0", "::", "192.168.1.7", "example.org", "localhost.example")))


@pytest.mark.system
def test_command_prints_its_address_imports_no_tensorflow_and_stops_on_sigint(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "tour", "--port", "0", "--home", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with process:
        address = process.stdout.readline().split()[0]
        with urllib.request.urlopen(address, timeout=60) as page:
            assert page.status == 200
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        with urllib.request.urlopen(f"{address}events", timeout=60) as stream:
            assert stream.readline() == b"event: parts\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0 and process.stderr.read() == ""
    assert "tensorflow" not in maps and "pandas" not in maps


@pytest.mark.system
def test_missing_home_and_taken_port_are_reported_in_one_line(tmp_path: Path) -> None:
    result = run_in_process("tour", "--home", tmp_path / "none")
    assert result.returncode == 2 and "There is nothing at" in result.stderr and len(result.stderr.splitlines()) == 1
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run_in_process("tour", "--home", tmp_path, "--port", taken.getsockname()[1])
    assert (
        result.returncode == 2
        and "cannot listen on 127.0.0.1:" in result.stderr
        and len(result.stderr.splitlines()) == 1
    )


@pytest.mark.system
def test_address_reachable_from_other_machines_gets_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    tokens: list[str] = []
    monkeypatch.setattr(
        command.TourServer,
        "run",
        lambda self, sockets: (tokens.append(self.config.app.state.token), self._announce()),
    )
    monkeypatch.setattr(command.os, "setpriority", lambda *words: None)
    command.serve_tour(tmp_path, "0.0.0.0", 0, "", "", False)
    output = capsys.readouterr().out
    assert len(tokens[0]) > 20 and f"?token={tokens[0]} " in output and "buttons need the token" in output
    command.serve_tour(tmp_path, "127.0.0.1", 0, "", "", False)
    assert tokens[1] == "" and "token" not in capsys.readouterr().out
