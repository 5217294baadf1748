"""The model server as a process: SIGTERM, SIGKILL under load, and errors in flags."""

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
from support.served_models import export_signatures, predict_number, push_version

pytestmark = pytest.mark.system


def start_server(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "serving.server.model_server", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def read_port(process: subprocess.Popen) -> int:
    """Return the REST port from the server's log; keep reading the log, because a full pipe would block the server."""
    for line in process.stderr:
        if "HTTP/REST API at" in line:
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return int(line.split(":")[-1].split()[0])
    raise AssertionError("the server ended before it was ready")


@contextmanager
def running_server(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen, int]]:
    process = start_server(f"--rest_api_port={free_port()}", "--port=0", "--host=127.0.0.1", *arguments)
    try:
        yield process, read_port(process)
    finally:
        process.kill()
        process.wait()


def test_sigterm_finishes_running_requests(tmp_path):
    export_signatures(tmp_path / "1")
    with running_server(tmp_path, "--model_name=m", f"--model_base_path={tmp_path}") as (process, port):
        body = b'{"signature_name": "slow", "instances": [500]}'
        head = f"POST /v1/models/m:predict HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), 120) as client:
            client.sendall(head.encode() + body)
            # This request is read after the slow one and returns at once, so the slow one is running now.
            assert httpx.get(f"http://127.0.0.1:{port}/v1/models/m", timeout=120).status_code == 200
            process.send_signal(signal.SIGTERM)
            response = b""
            while data := client.recv(1000):
                response += data
        assert response.startswith(b"HTTP/1.1 200 OK") and response.endswith(b'{"predictions":[500.0]}')
        assert process.wait(60) == 0
        with pytest.raises(httpx.ConnectError):
            predict_number(port)


@pytest.mark.slow
def test_server_killed_under_load_restarts_with_the_same_version(version_folder, tmp_path):
    for version in (1, 2):
        push_version(version_folder, tmp_path, version)
    for _ in range(2):
        with running_server(tmp_path, "--model_name=m", f"--model_base_path={tmp_path}") as (process, port):
            assert [predict_number(port) for _ in range(50)] == [3.0] * 50
            process.kill()


def free_port() -> int:
    with socket.socket() as socket_:
        socket_.bind(("127.0.0.1", 0))
        return socket_.getsockname()[1]


def test_unsupported_flag_exits_with_code_2_and_one_sentence(tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "serving.server.model_server", "--ssl_config_file=x"],
        cwd=ROOT,
        text=True,
        capture_output=True,
    )
    assert (
        process.returncode == 2
        and process.stderr == "error: --ssl_config_file is not supported: put a proxy in front for TLS.\n"
    )
    assert json.dumps(process.stdout) == '""'
