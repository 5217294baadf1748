"""What may not be asked of the tour, and the command that starts it."""

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
from tour.web.app import create

BASE, PLACE = "http://127.0.0.1:8600", "/questions/A1/evidence/stop"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create(tmp_path, hosts=("showcase.example",)), base_url=BASE) as opened:
        yield opened


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create(tmp_path, token="a-token"), base_url=BASE) as opened:
        yield opened


@pytest.mark.parametrize(
    "path", ["/", "/questions", "/questions/A1", "/rehearse", "/presenter", "/static/tour.js", "/nothing"]
)
def test_every_answer_says_what_a_page_may_load(client: TestClient, path: str) -> None:
    told = client.get(path).headers
    assert told["x-content-type-options"] == "nosniff" and told["referrer-policy"] == "no-referrer"
    policy = told["content-security-policy"]
    assert (
        "default-src 'none'" in policy
        and "script-src 'self';" in policy
        and "unsafe" not in policy
        and "frame-ancestors 'none'" in policy
    )


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8600", "127.0.0.1.evil.example", "", "a:b:c", "[::1", "localhost.evil"]
)
def test_a_name_that_others_can_point_here_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).status_code == 400


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8600", "127.0.0.1:9", "[::1]:8600", "192.168.1.7", "SHOWCASE.example"]
)
def test_an_address_localhost_and_names_that_were_given_are_known(client: TestClient, host: str) -> None:
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
def test_another_site_changes_nothing(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post(PLACE, headers=headers, follow_redirects=False).status_code == 403
    assert client.get("/", headers=headers).status_code == 200


def test_this_site_does(client: TestClient) -> None:
    for headers in ({}, {"origin": BASE}, {"origin": BASE, "sec-fetch-site": "same-origin"}):
        assert client.post(PLACE, headers=headers, follow_redirects=False).status_code == 303


def test_a_change_needs_the_token_where_there_is_one(guarded: TestClient) -> None:
    assert guarded.get("/").status_code == 200
    assert guarded.post(PLACE, follow_redirects=False).status_code == 403
    assert guarded.post(PLACE, headers={"x-tour-token": "another"}, follow_redirects=False).status_code == 403
    assert (
        guarded.post(PLACE, headers={"cookie": "tour_token=\xe9".encode("latin-1")}, follow_redirects=False).status_code
        == 403
    )
    assert guarded.post(PLACE, headers={"x-tour-token": "a-token"}, follow_redirects=False).status_code == 303


def test_the_token_in_the_address_becomes_a_cookie_and_leaves_the_address(guarded: TestClient) -> None:
    answer = guarded.get("/questions?q=a&token=a-token", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/questions?q=a")
    assert "HttpOnly" in answer.headers["set-cookie"] and "SameSite=Strict" in answer.headers["set-cookie"]
    assert guarded.post(PLACE, follow_redirects=False).status_code == 303
    assert "set-cookie" not in guarded.get("/?token=wrong").headers


def test_the_address_that_is_gone_to_is_never_elsewhere(guarded: TestClient) -> None:
    for path in ("//evil.example/", "/%0d%0aset-cookie:x=1", "/%5cevil.example"):
        place = guarded.get(f"{path}?token=a-token", follow_redirects=False).headers.get("location", "/")
        assert place.startswith("/") and not place.startswith(("//", "/\\")) and "\r" not in place


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
def test_no_other_file_can_be_asked_for(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (400, 404) and "import" not in answer.text and "root:" not in answer.text


def test_what_is_not_there_is_a_page_that_holds_the_path_as_text(client: TestClient) -> None:
    answer = client.get("/<script>x", headers={"accept": "text/html"})
    assert answer.status_code == 404 and "There is nothing at" in answer.text and "<script>x" not in answer.text


def test_only_this_machines_addresses_are_its_own() -> None:
    assert all(map(command.is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(command.is_loopback, ("0.0.0.0", "::", "192.168.1.7", "example.org", "localhost.example")))


@pytest.mark.system
def test_the_command_says_where_it_is_imports_no_tensorflow_and_ends_when_told(tmp_path: Path) -> None:
    started = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "tour", "--port", "0", "--home", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with started:
        address = started.stdout.readline().split()[0]
        with urllib.request.urlopen(address, timeout=60) as page:
            assert page.status == 200
        maps = Path(f"/proc/{started.pid}/maps").read_text()
        with urllib.request.urlopen(f"{address}events", timeout=60) as stream:
            assert stream.readline() == b"event: parts\n"
            started.send_signal(signal.SIGINT)
            assert started.wait(60) == 0 and started.stderr.read() == ""
    assert "tensorflow" not in maps and "pandas" not in maps


@pytest.mark.system
def test_a_home_that_is_not_there_and_a_port_that_is_taken_are_one_sentence(tmp_path: Path) -> None:
    done = run_in_process("tour", "--home", tmp_path / "none")
    assert done.returncode == 2 and "There is nothing at" in done.stderr and len(done.stderr.splitlines()) == 1
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run_in_process("tour", "--home", tmp_path, "--port", taken.getsockname()[1])
    assert done.returncode == 2 and "cannot listen on 127.0.0.1:" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.system
def test_elsewhere_it_has_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    served: list[str] = []
    monkeypatch.setattr(
        command.Server, "run", lambda self, sockets: (served.append(self.config.app.state.token), self._ready())
    )
    monkeypatch.setattr(command.os, "setpriority", lambda *words: None)
    command.tour(tmp_path, "0.0.0.0", 0, "", "", False)
    said = capsys.readouterr().out
    assert len(served[0]) > 20 and f"?token={served[0]} " in said and "only who has the token" in said
    command.tour(tmp_path, "127.0.0.1", 0, "", "", False)
    assert served[1] == "" and "token" not in capsys.readouterr().out
