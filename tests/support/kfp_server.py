"""Fake v2beta1 API of Kubeflow Pipelines: it records requests and fails on demand."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

BASE = "/apis/v2beta1/"
IDS = {"experiments": "experiment_id", "runs": "run_id", "recurringruns": "recurring_run_id"}
LISTS = {"experiments": "experiments", "runs": "runs", "recurringruns": "recurringRuns"}


class FakeKfpApi(ThreadingHTTPServer):
    """HTTP server of the fake API.

    Attributes:
        created: Bodies of created entries by kind, each with its id.
        requests: Method, path and headers of all requests.
        failing_statuses: Statuses of the next creations, which create nothing.
        lost_responses: Number of next creations that succeed although the response is an error.
        users: Whether the API reports multi-user mode.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.created: dict[str, list[dict[str, Any]]] = {kind: [] for kind in IDS}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.failing_statuses: list[int] = []
        self.lost_responses = 0
        self.users = False

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeKfpApi

    def do_GET(self) -> None:
        kind, query = self._parse_request()
        if kind == "healthz":
            return self._answer(200, {"multi_user": self.server.users})
        if kind not in IDS:
            return self._answer(404, {"error": f"nothing at {self.path}"})
        entries = self.server.created[kind]
        if kind != "experiments" and "experiment_id" in query:
            entries = [entry for entry in entries if entry["experiment_id"] == query["experiment_id"][0]]
        return self._answer(200, {LISTS[kind]: entries, "total_size": len(entries)})

    def do_POST(self) -> None:
        kind, _ = self._parse_request()
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if kind not in IDS:
            return self._answer(404, {"error": f"nothing at {self.path}"})
        if kind != "experiments" and self.server.failing_statuses:
            return self._answer(self.server.failing_statuses.pop(0), {"error": "not now"})
        entry = {**body, IDS[kind]: f"{kind}-{len(self.server.created[kind]) + 1}"}
        self.server.created[kind].append(entry)
        if kind != "experiments" and self.server.lost_responses:
            self.server.lost_responses -= 1
            return self._answer(504, {"error": "the answer was lost"})
        return self._answer(200, entry)

    def _parse_request(self) -> tuple[str, dict[str, list[str]]]:
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        parts = urlsplit(self.path)
        return parts.path.removeprefix(BASE).strip("/"), parse_qs(parts.query)

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def run_fake_api() -> Iterator[FakeKfpApi]:
    """Run the fake API."""
    api = FakeKfpApi()
    threading.Thread(target=api.serve_forever, args=(0.01,), daemon=True).start()  # polls for shutdown every 10 ms
    try:
        yield api
    finally:
        api.shutdown()
        api.server_close()
