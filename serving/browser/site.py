"""Local web server for the page, LiteRT.js and the models; nothing is loaded from the internet."""

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules" / "@litertjs"
EXTRA = "assets.extra"  # the folder of a pushed version that TensorFlow Serving ignores
MODEL, SAMPLES = "one_row.tflite", "samples.npz"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".wasm": "application/wasm",
    ".tflite": "application/octet-stream",
    ".json": "application/json",
}
IMPORT_MAP = re.compile(r'<script type="importmap">(.*?)</script>', re.DOTALL)
SAMPLE = re.compile(r"/cases/([\w-]+)/samples/(\d{1,6})\.json$")


class Site:
    """The files of the web page by URL path; no other file is served.

    Question: B27
    Answer: The mistake is to stop at a model that only runs in a notebook. One export has three targets: TensorFlow Serving
        loads the SavedModel, LiteRT runs the `.tflite` on devices and in our server, LiteRT.js runs it offline in a page;
        TensorFlow.js needs its own conversion. Keep one preprocessing, and restrict shapes and types to each runtime:
        in browsers, one row, 32-bit integers, no strings. Compare outputs on the same inputs before a push and, as
        here, in each runtime.
    Evidence: tour.evidence.serving.edge_files.equal_everywhere
    Proof: tests/serving/browser/test_browser.py::test_page_outputs_equal_numpy

    Args:
        versions: Folder of a pushed version by name of the use case.
        models: By name of the use case, a one-row ``.tflite`` that replaces the version's own.

    Raises:
        FileNotFoundError: if LiteRT.js or a model is missing; the message names the command that creates it.
    """

    def __init__(self, versions: Mapping[str, Path], models: Mapping[str, Path] | None = None):
        self._files = {**_page_files(), **_package_files()}
        self._samples: dict[str, dict[str, np.ndarray]] = {}
        descriptions = []
        for name, version in versions.items():
            model = (models or {}).get(name, version / EXTRA / MODEL)
            if not model.is_file() or not (version / EXTRA / SAMPLES).is_file():
                raise FileNotFoundError(
                    f"{version} has no {MODEL} with samples; push a version that has them: `showcase run {name}`."
                )
            self._files[f"/cases/{name}/model.tflite"] = model
            with np.load(version / EXTRA / SAMPLES) as arrays:
                self._samples[name] = dict(arrays)
            descriptions.append(self._describe(name, version, model))
        self._cases = json.dumps(descriptions).encode()
        self.policy = _content_policy((HERE / "page" / "index.html").read_text())

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """Return content type and content of a URL path; None if it does not exist."""
        if path == "/cases.json":
            return TYPES[".json"], self._cases
        if match := SAMPLE.match(path):
            return self._sample(match[1], int(match[2]))
        file = self._files.get(path)
        return (TYPES[file.suffix], file.read_bytes()) if file else None

    def _describe(self, name: str, version: Path, model: Path) -> dict[str, Any]:
        model_json = json.loads((version / EXTRA / "model.json").read_text())
        classes = model_json["settings"].get("classes") or []
        count = len(next(iter(self._samples[name].values())))
        return {
            "name": name,
            "version": version.name,
            "bytes": model.stat().st_size,
            "samples": count,
            "point": model_json["operating_point"],
            "classes": classes.split(",") if isinstance(classes, str) else classes,
        }

    def _sample(self, name: str, row: int) -> tuple[str, bytes] | None:
        arrays = self._samples.get(name, {})
        if not arrays or row >= len(next(iter(arrays.values()))):
            return None
        sample: dict[str, dict[str, Any]] = {"raw": {}, "input": {}, "answer": {}}
        for key, values in arrays.items():
            part, _, feature = key.partition("/")
            sample[part][feature] = values[row].ravel().tolist()
        return TYPES[".json"], json.dumps(sample).encode()


class Handler(BaseHTTPRequestHandler):
    """Handles GET and HEAD requests for the files of a site."""

    protocol_version = "HTTP/1.1"
    server_version = "showcase"
    sys_version = ""

    def __init__(self, site: Site, *args: Any):
        self._site = site
        super().__init__(*args)

    def do_GET(self) -> None:
        """Send the file at the path, with a content security policy that lets the page load only from this server."""
        resource = self._site.answer("/index.html" if self.path == "/" else self.path.partition("?")[0])
        kind, content = resource or ("text/plain; charset=utf-8", b"Not found.\n")
        self.send_response(HTTPStatus.OK if resource else HTTPStatus.NOT_FOUND)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Cache-Control", "no-cache"),
            ("Content-Security-Policy", self._site.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *args: Any) -> None:
        """Log nothing; the page's own requests are not of interest."""


def create_server(site: Site, port: int = 0) -> ThreadingHTTPServer:
    """Create a server on 127.0.0.1 that is not serving yet; port 0 takes a free port.

    Raises:
        OSError: if the port is taken; the message names it.
    """
    try:
        http_server = ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, site))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        message = f"The page cannot be served on 127.0.0.1:{port} ({reason}); choose another --port (0: a free one)."
        raise OSError(message) from None
    http_server.daemon_threads = True
    return http_server


def serve(versions: Mapping[str, Path], port: int) -> None:
    """Serve the page for these versions, by name of the use case, until interrupted.

    Raises:
        FileNotFoundError: if LiteRT.js or a model is missing; the message names the command that creates it.
        OSError: if the port is taken.
    """
    with create_server(Site(versions), port) as http_server:
        print(f"http://127.0.0.1:{http_server.server_port}/ (Ctrl-C ends it)", flush=True)
        with suppress(KeyboardInterrupt):
            http_server.serve_forever()


def _page_files() -> dict[str, Path]:
    return {f"/{path.name}": path for path in (HERE / "page").iterdir()}


def _package_files() -> dict[str, Path]:
    files = {
        "/litert/core.js": PACKAGES / "core" / "dist" / "index.js",
        "/litert/wasm-utils.js": PACKAGES / "wasm-utils" / "dist" / "index.js",
    }
    if missing := [path for path in files.values() if not path.is_file()]:
        raise FileNotFoundError(f"{missing[0].parent.parent.name} of LiteRT.js is not installed; run `make browser`.")
    wasm = (path for path in (PACKAGES / "core" / "wasm").iterdir() if path.suffix in TYPES)
    return files | {f"/litert/wasm/{path.name}": path for path in wasm}


def _content_policy(page: str) -> str:
    """Return the content security policy: files of this server, WebAssembly, and the page's import map by its hash."""
    (import_map,) = IMPORT_MAP.findall(page)
    digest = base64.b64encode(hashlib.sha256(import_map.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'sha256-{digest}'; connect-src 'self'; "
        "style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
