"""A stand-in for the v2beta1 API of Kubeflow Pipelines: it keeps what it got, and fails as often as it is told to."""

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


class Api(ThreadingHTTPServer):
    """What was created, by kind, and every request.

    Attributes:
        made: Bodies of what was created, each with its id.
        requests: Method, path and headers of all requests.
        failing: Statuses to answer the next creations with, in place of making anything.
        losing: How many of the next creations are made, and answered with an error all the same.
        users: Whether it says that it has several users.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.made: dict[str, list[dict[str, Any]]] = {kind: [] for kind in IDS}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.failing: list[int] = []
        self.losing = 0
        self.users = False

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        kind, query = self._asked()
        if kind == "healthz":
            return self._answer(200, {"multi_user": self.server.users})
        if kind not in IDS:
            return self._answer(404, {"error": f"nothing at {self.path}"})
        found = self.server.made[kind]
        if kind != "experiments" and "experiment_id" in query:
            found = [one for one in found if one["experiment_id"] == query["experiment_id"][0]]
        return self._answer(200, {LISTS[kind]: found, "total_size": len(found)})

    def do_POST(self) -> None:
        kind, _ = self._asked()
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if kind not in IDS:
            return self._answer(404, {"error": f"nothing at {self.path}"})
        if kind != "experiments" and self.server.failing:
            return self._answer(self.server.failing.pop(0), {"error": "not now"})
        made = {**body, IDS[kind]: f"{kind}-{len(self.server.made[kind]) + 1}"}
        self.server.made[kind].append(made)
        if kind != "experiments" and self.server.losing:
            self.server.losing -= 1
            return self._answer(504, {"error": "the answer was lost"})
        return self._answer(200, made)

    def _asked(self) -> tuple[str, dict[str, list[str]]]:
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
        """Silent."""


@contextmanager
def standing_in() -> Iterator[Api]:
    """The server, while it is needed."""
    api = Api()
    threading.Thread(target=api.serve_forever, args=(0.01,), daemon=True).start()  # it looks that often if it is to end
    try:
        yield api
    finally:
        api.shutdown()
        api.server_close()
