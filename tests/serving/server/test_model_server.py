"""The model server as a program: signals, a kill, and what it says of a mistake."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.command import ROOT
from support.served_models import ask, doors, push

pytestmark = pytest.mark.system


def program(*words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "serving.server.model_server", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def port_of(process: subprocess.Popen) -> int:
    """Reads its log until it answers, and goes on reading, as a full pipe would stop it."""
    for line in process.stderr:
        if "HTTP/REST API at" in line:
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return int(line.split(":")[-1].split()[0])
    raise AssertionError("it ended")


@contextmanager
def running(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen, int]]:
    process = program(f"--rest_api_port={free_port()}", "--port=0", "--host=127.0.0.1", *words)
    try:
        yield process, port_of(process)
    finally:
        process.kill()
        process.wait()


def test_sigterm_answers_what_is_under_way(tmp_path):
    doors(tmp_path / "1")
    with running(tmp_path, "--model_name=m", f"--model_base_path={tmp_path}") as (process, port):
        body = b'{"signature_name": "slow", "instances": [500]}'
        head = f"POST /v1/models/m:predict HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), 120) as client:
            client.sendall(head.encode() + body)
            # Read after it, and answered at once: by now the first is under way.
            assert httpx.get(f"http://127.0.0.1:{port}/v1/models/m", timeout=120).status_code == 200
            process.send_signal(signal.SIGTERM)
            found = b""
            while data := client.recv(1000):
                found += data
        assert found.startswith(b"HTTP/1.1 200 OK") and found.endswith(b'{"predictions":[500.0]}')
        assert process.wait(60) == 0
        with pytest.raises(httpx.ConnectError):
            ask(port)


@pytest.mark.slow
def test_killed_under_load_it_starts_again_with_the_same_version(made, tmp_path):
    for version in (1, 2):
        push(made, tmp_path, version)
    for _ in range(2):
        with running(tmp_path, "--model_name=m", f"--model_base_path={tmp_path}") as (process, port):
            assert [ask(port) for _ in range(50)] == [3.0] * 50
            process.kill()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_the_program_says_in_one_sentence_what_is_wrong(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "serving.server.model_server", "--ssl_config_file=x"],
        cwd=ROOT,
        text=True,
        capture_output=True,
    )
    assert (
        done.returncode == 2
        and done.stderr == "error: --ssl_config_file is not supported: put a proxy in front for TLS.\n"
    )
    assert json.dumps(done.stdout) == '""'
