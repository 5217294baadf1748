"""Kubernetes' own API server on this machine, with etcd behind it: no node, no controller, but every check of an object."""

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

PROGRAM = ROOT / ".tools" / "bin" / "kube-apiserver"
START = 120.0  # seconds; 4 on a quiet machine


class Server:
    """A running one, asked by kubectl as its administrator."""

    def __init__(self, port: int, token: str) -> None:
        self.url, self._token = f"https://127.0.0.1:{port}", token

    def kubectl(self, *words: object, told: Sequence[Any] = ()) -> subprocess.CompletedProcess[str]:
        """Runs kubectl with objects on its standard input; a warning is an error, as a policy's is."""
        place = ["--server", self.url, "--token", self._token, "--insecure-skip-tls-verify", "--warnings-as-errors"]
        sent = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(told)})
        command = [needs("kubectl"), *place, *map(str, words)]
        return subprocess.run(command, input=sent, capture_output=True, text=True, timeout=120)

    def ready(self) -> bool:
        """Whether it says so itself."""
        asked = urllib.request.Request(f"{self.url}/readyz", headers={"Authorization": f"Bearer {self._token}"})
        try:
            return urllib.request.urlopen(asked, timeout=5, context=_unverified()).status == 200
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """Starts both and ends both; skips where the server has not been built: that takes too long for every CI run."""
    if not PROGRAM.is_file():
        pytest.skip("Kubernetes' API server is not built: run make apiserver.")
    etcd, port, client, peer = needs("etcd"), *_free(3)
    token, key = secrets.token_hex(16), folder / "accounts.key"
    (folder / "tokens.csv").write_text(f'{token},admin,1,"system:masters"\n')
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    store, among = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    commands = {
        "etcd": [
            etcd,
            "--data-dir",
            folder / "etcd",
            "--listen-client-urls",
            store,
            "--advertise-client-urls",
            store,
            "--listen-peer-urls",
            among,
            "--initial-advertise-peer-urls",
            among,
            "--initial-cluster",
            f"default={among}",
        ],
        "kube-apiserver": [
            PROGRAM,
            "--etcd-servers",
            store,
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
            # Nobody here makes the accounts that a namespace begins with.
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
        server, ends = Server(port, token), time.monotonic() + START
        while not server.ready():
            ended = any(one.poll() is not None for one in processes)
            assert not ended and time.monotonic() < ends, (folder / "kube-apiserver.log").read_text()[-2000:]
            time.sleep(0.2)
        yield server
    finally:
        for one in reversed(processes):
            os.kill(one.pid, signal.SIGKILL)
            one.wait()


def _free(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _unverified() -> SSLContext:
    """For a certificate that the server has just made for itself."""
    context = create_default_context()
    context.check_hostname, context.verify_mode = False, CERT_NONE
    return context
