"""Kubernetes' API server with etcd on this machine: it validates objects, and has no nodes and no controllers."""

import json
import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from ssl import CERT_NONE, SSLContext, create_default_context
from typing import Any

import pytest

from support.command import ROOT
from support.programs import needs

PROGRAM, ETCD = (ROOT / ".tools" / "bin" / name for name in ("kube-apiserver", "etcd"))
START = 120.0  # seconds; 4 on a quiet machine


class ApiServer:
    """A running API server, used through kubectl as its administrator."""

    def __init__(self, port: int, token: str) -> None:
        self.url, self._token = f"https://127.0.0.1:{port}", token

    def kubectl(self, *words: object, objects: Sequence[Any] = ()) -> subprocess.CompletedProcess[str]:
        """Run kubectl with objects on its standard input; a warning, such as a policy's, is an error."""
        options = ["--server", self.url, "--token", self._token, "--insecure-skip-tls-verify", "--warnings-as-errors"]
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        command = [needs("kubectl"), *options, *map(str, words)]
        return subprocess.run(command, input=document, capture_output=True, text=True, timeout=120)

    def ready(self) -> bool:
        """Whether the server reports that it is ready."""
        request = urllib.request.Request(f"{self.url}/readyz", headers={"Authorization": f"Bearer {self._token}"})
        try:
            return urllib.request.urlopen(request, timeout=5, context=_unverified()).status == 200
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def run_api_server(folder: Path) -> Iterator[ApiServer]:
    """Run etcd and the API server; skip if the server has not been built, which takes too long for every CI run."""
    if not PROGRAM.is_file():
        pytest.skip("Kubernetes' API server is not built: run make apiserver.")
    etcd, port, client, peer = ETCD if ETCD.is_file() else needs("etcd"), *_free_ports(3)
    token, key = secrets.token_hex(16), folder / "accounts.key"
    (folder / "tokens.csv").write_text(f'{token},admin,1,"system:masters"\n')
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    store_url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    commands = {
        "etcd": [
            etcd,
            "--data-dir",
            folder / "etcd",
            "--listen-client-urls",
            store_url,
            "--advertise-client-urls",
            store_url,
            "--listen-peer-urls",
            peer_url,
            "--initial-advertise-peer-urls",
            peer_url,
            "--initial-cluster",
            f"default={peer_url}",
        ],
        "kube-apiserver": [
            PROGRAM,
            "--etcd-servers",
            store_url,
            "--cert-dir",
            folder / "certificates",
            "--bind-address",
            "127.0.0.1",
            "--secure-port",
            port,
            "--service-cluster-ip-range",
            "10.0.0.0/24",
            "--token-auth-file",
            folder / "tokens.csv",
            "--authorization-mode",
            "RBAC",
            "--service-account-issuer",
            "https://kubernetes.default.svc",
            "--service-account-key-file",
            key,
            "--service-account-signing-key-file",
            key,
            # No controller creates the default accounts of a namespace.
            "--disable-admission-plugins",
            "ServiceAccount",
        ],
    }
    processes: list[subprocess.Popen] = []
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("w") as log:
                processes.append(
                    subprocess.Popen(list(map(str, command)), stdout=log, stderr=subprocess.STDOUT, cwd=folder)
                )
        server, ends = ApiServer(port, token), time.monotonic() + START
        while not server.ready():
            ended = any(process.poll() is not None for process in processes)
            assert not ended and time.monotonic() < ends, (folder / "kube-apiserver.log").read_text()[-2000:]
            time.sleep(0.2)
        yield server
    finally:
        for process in reversed(processes):
            os.kill(process.pid, signal.SIGKILL)
            process.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [socket_.getsockname()[1] for socket_ in sockets]
    for socket_ in sockets:
        socket_.close()
    return ports


def _unverified() -> SSLContext:
    """Create a TLS context that accepts the self-signed certificate of the server."""
    context = create_default_context()
    context.check_hostname, context.verify_mode = False, CERT_NONE
    return context
