"""Stand-in for the parts of Kubernetes' API that a run of Jobs uses; it plays a script for the pods of every task."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


class FakeJobsApi(ThreadingHTTPServer):
    """HTTP server of the stand-in.

    Attributes:
        script: By task, the exit codes of its pods in order; None for a pod that no machine can take. A task that is not
            listed succeeds at once.
        jobs: Jobs by name, as they were posted, with their status.
        created: Names of the tasks in the order of their creation.
        deleted: Names of deleted Jobs.
    """

    daemon_threads = True

    def __init__(self, script: Mapping[str, Sequence[int | None]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.jobs = dict(script), {}
        self.created: list[str] = []
        self.deleted: list[str] = []
        self.statuses: list[int] = []

    def write_kubeconfig(self, path: Path) -> None:
        """Write a kubeconfig file that names this server."""
        server = {"name": "fake", "cluster": {"server": f"http://127.0.0.1:{self.server_port}"}}
        context = {"name": "fake", "context": {"cluster": "fake", "user": "fake"}}
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "fake", "clusters": [server]}
        path.write_text(json.dumps(config | {"contexts": [context], "users": [{"name": "fake", "user": {}}]}))

    def add(self, job: dict[str, Any]) -> None:
        """Store a new Job and the pods that its script has."""
        task = job["metadata"]["labels"]["showcase/task"]
        codes = self.script.get(task, [0])
        job["metadata"]["uid"] = f"uid-{len(self.created)}"
        job["status"] = {"conditions": self._conditions(job, codes)}
        job["pods"] = [self._pod(job, number, code) for number, code in enumerate(codes)]
        self.jobs[job["metadata"]["name"]] = job
        self.created.append(task)

    def _conditions(self, job: dict[str, Any], codes: Sequence[int | None]) -> list[dict[str, str]]:
        if codes[-1] is None:
            return []
        rules = job["spec"]["podFailurePolicy"]["rules"]
        final = [code for rule in rules if rule["action"] == "FailJob" for code in rule["onExitCodes"]["values"]]
        if codes[-1] == 0:
            return [{"type": "Complete", "status": "True"}]
        exhausted = len(codes) > job["spec"]["backoffLimit"]
        return [{"type": "Failed", "status": "True", "reason": "x"}] if exhausted or codes[-1] in final else []

    def _pod(self, job: dict[str, Any], number: int, code: int | None) -> dict[str, Any]:
        created = (datetime.now(UTC) - timedelta(seconds=100 - number)).isoformat()
        metadata = {"name": f"{job['metadata']['name']}-{number}", "creationTimestamp": created}
        metadata["labels"] = job["spec"]["template"]["metadata"]["labels"]
        if code is None:
            condition = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient cpu"}
            return {"metadata": metadata, "status": {"phase": "Pending", "conditions": [condition]}}
        ended = {"name": "main", "state": {"terminated": {"exitCode": code}}, "ready": False, "restartCount": 0}
        ended |= {"image": "x", "imageID": "x"}
        phase = "Failed" if code else "Succeeded"
        return {"metadata": metadata, "status": {"phase": phase, "containerStatuses": [ended]}}


class _Handler(BaseHTTPRequestHandler):
    server: FakeJobsApi

    def do_GET(self) -> None:
        path, query = self._split()
        run = query.get("labelSelector", [""])[0].partition("=")[2]
        jobs = [job for job in self.server.jobs.values() if job["metadata"]["labels"]["showcase/run"] == run]
        if path.endswith("/jobs"):
            return self._answer(200, {"items": jobs})
        if path.endswith("/pods"):
            return self._answer(200, {"items": [pod for job in jobs for pod in job["pods"]]})
        return self._answer(200, f"log of {path.split('/')[-2]}")

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.statuses:
            return self._answer(self.server.statuses.pop(0), {"message": "not now"})
        if job["metadata"]["name"] in self.server.jobs:
            return self._answer(409, {"message": "exists"})
        self.server.add(job)
        return self._answer(201, job)

    def do_DELETE(self) -> None:
        name = self._split()[0].split("/")[-1]
        self.server.jobs.pop(name)
        self.server.deleted.append(name)
        return self._answer(200, {"status": "Success"})

    def _split(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        return parts.path, parse_qs(parts.query)

    def _answer(self, status: int, body: dict[str, Any] | str) -> None:
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("content-type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@contextmanager
def run_fake_jobs_api(script: Mapping[str, Sequence[int | None]]) -> Iterator[FakeJobsApi]:
    """Serve the stand-in until the block ends."""
    server = FakeJobsApi(script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
