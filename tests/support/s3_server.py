"""An S3 server in this process (moto's), with faults between it and its clients."""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from pyarrow import fs
from werkzeug.serving import WSGIRequestHandler, make_server

# Takes a request's WSGI environment; returns status and body to answer in place of the server, or None for its own answer.
Fault = Callable[[dict[str, Any]], tuple[str, str] | None]
ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>a fault of the test</Message></Error>"
CUT = "cut"


class _QuietHandler(WSGIRequestHandler):
    def log(self, *arguments: Any) -> None:
        pass


class S3Server:
    """A server with buckets of its own; every request is recorded, and a fault may come before the answer.

    Attributes:
        requests: Method, path and query of every request, such as ``PUT /bucket/key?partNumber=1``.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self._faults: list[Fault] = []
        os.environ["S3_IGNORE_SUBDOMAIN_BUCKETNAME"] = "true"  # buckets are paths
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_QuietHandler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of a client."""
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
        return {"AWS_ENDPOINT_URL": self.url, **keys}

    def make_bucket(self) -> str:
        """Create an empty bucket; return its name."""
        name = f"bucket-{uuid.uuid4().hex[:8]}"
        self.client().create_dir(name)
        return name

    def client(self) -> fs.S3FileSystem:
        """A client that knows nothing of the code under test."""
        return fs.S3FileSystem(
            endpoint_override=self.url,
            access_key="key",
            secret_key="secret",
            region="us-east-1",
            allow_bucket_creation=True,
        )

    def list_keys(self, folder: str) -> list[str]:
        """Return the keys of all objects below BUCKET/FOLDER, sorted, as paths in it."""
        objects = self.client().get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
        return sorted(info.path.removeprefix(f"{folder}/") for info in objects if info.is_file)

    @contextmanager
    def inject(self, fault: Fault) -> Iterator[None]:
        """Ask the fault about every request inside the block."""
        self._faults.append(fault)
        try:
            yield
        finally:
            self._faults.remove(fault)

    def close(self) -> None:
        self._server.shutdown()

    def _answer(self, environment: dict[str, Any], start_response: Any) -> Any:
        query = environment["QUERY_STRING"]
        self.requests.append(f"{environment['REQUEST_METHOD']} {environment['PATH_INFO']}{'?' if query else ''}{query}")
        for fault in self._faults:
            if answer := fault(environment):
                status, body = answer
                if status == CUT:  # in the middle of what the client sends
                    environment["wsgi.input"].read(1)
                    environment["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                    raise ConnectionResetError("cut by the test")
                start_response(status, [("Content-Type", "application/xml")])
                return [body.encode()]
        return self._app(environment, start_response)


def fail(number: int, status: str, method: str = "", part: str = "") -> Fault:
    """Answer the first requests of a method whose path contains a part with a status, such as ``503 Slow Down``, or ``CUT``."""
    left, lock = [number], threading.Lock()

    def fault(environment: dict[str, Any]) -> tuple[str, str] | None:
        with lock:
            is_meant = method in ("", environment["REQUEST_METHOD"]) and part in environment["PATH_INFO"]
            if not is_meant or not left[0]:
                return None
            left[0] -= 1
            return status, ERROR.format("".join(status.split()[1:]))

    return fault


def delay(seconds: float) -> Fault:
    """Answer every request that many seconds later."""

    def fault(environment: dict[str, Any]) -> None:
        time.sleep(seconds)

    return fault


def hide_listings(environment: dict[str, Any]) -> tuple[str, str] | None:
    """Answer each listing as if nothing had been written, as an eventually consistent server may."""
    if "list-type=2" not in environment["QUERY_STRING"]:
        return None
    return "200 OK", "<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"


def refuse_anonymous(environment: dict[str, Any]) -> tuple[str, str] | None:
    """Refuse requests without a signature, as real servers do."""
    return None if "HTTP_AUTHORIZATION" in environment else ("403 Forbidden", ERROR.format("AccessDenied"))


def upload_folder(client: fs.S3FileSystem, folder: Path, key: str) -> Callable[[], None]:
    """Upload a folder without its manifest, as an unfinished upload of another machine; return what finishes it."""
    checksums = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        name, content = str(path.relative_to(folder)), path.read_bytes()
        checksums[name] = [len(content), google_crc32c.value(content)]
        with client.open_output_stream(f"{key}/{name}") as stream:
            stream.write(content)

    def finish() -> None:
        with client.open_output_stream(f"{key}.manifest") as stream:
            stream.write(json.dumps(checksums).encode())

    return finish
