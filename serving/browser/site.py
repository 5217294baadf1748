"""The page, LiteRT.js and the models, served from this machine only; nothing is fetched from elsewhere."""

import base64
import hashlib
import json
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
EXTRA = "assets.extra"  # the folder of a pushed version that TensorFlow Serving leaves alone
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
    """Everything that is served, by its path; no other file can be asked for.

    Question: B27
    Answer: A model that only runs in a notebook is not deployed. One export has three ways out: TensorFlow Serving loads
        the SavedModel, LiteRT runs the `.tflite` on devices, LiteRT.js runs it in a page, offline; TensorFlow.js wants a
        conversion of its own. Keep one preprocessing for all, fix shapes and types to what each runtime has (in browsers
        one row, 32-bit integers), and compare answers on the same inputs before a push and in each runtime.
    Evidence: tour.evidence.serving.edge_files.equal_everywhere
    Proof: tests/serving/browser/test_browser.py::test_the_page_answers_as_numpy_does

    Args:
        versions: A pushed version's folder by the name of the case.
        models: Another ``.tflite`` of one row by the name of a case, in place of the version's own.

    Raises:
        FileNotFoundError: if LiteRT.js or a model is missing, naming the command that brings it.
    """

    def __init__(self, versions: Mapping[str, Path], models: Mapping[str, Path] | None = None):
        self._files = {**_page(), **_packages()}
        self._samples: dict[str, dict[str, np.ndarray]] = {}
        about = []
        for name, version in versions.items():
            model = (models or {}).get(name, version / EXTRA / MODEL)
            if not model.is_file() or not (version / EXTRA / SAMPLES).is_file():
                raise FileNotFoundError(
                    f"{version} has no {MODEL} with samples: `showcase run {name}` pushes one that has."
                )
            self._files[f"/cases/{name}/model.tflite"] = model
            with np.load(version / EXTRA / SAMPLES) as arrays:
                self._samples[name] = dict(arrays)
            about.append(self._about(name, version, model))
        self._cases = json.dumps(about).encode()
        self.policy = _policy((HERE / "page" / "index.html").read_text())

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """Content type and content of a path; None for one that is not there."""
        if path == "/cases.json":
            return TYPES[".json"], self._cases
        if found := SAMPLE.match(path):
            return self._sample(found[1], int(found[2]))
        file = self._files.get(path)
        return (TYPES[file.suffix], file.read_bytes()) if file else None

    def _about(self, name: str, version: Path, model: Path) -> dict[str, Any]:
        told = json.loads((version / EXTRA / "model.json").read_text())
        classes = told["settings"].get("classes", "")
        count = len(next(iter(self._samples[name].values())))
        return {
            "name": name,
            "version": version.name,
            "bytes": model.stat().st_size,
            "samples": count,
            "point": told["operating_point"],
            "classes": classes.split(",") if classes else [],
        }

    def _sample(self, name: str, row: int) -> tuple[str, bytes] | None:
        arrays = self._samples.get(name, {})
        if not arrays or row >= len(next(iter(arrays.values()))):
            return None
        parts: dict[str, dict[str, Any]] = {"raw": {}, "input": {}, "answer": {}}
        for key, values in arrays.items():
            part, _, feature = key.partition("/")
            parts[part][feature] = values[row].ravel().tolist()
        return TYPES[".json"], json.dumps(parts).encode()


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD from a site."""

    protocol_version = "HTTP/1.1"
    server_version = "showcase"
    sys_version = ""

    def __init__(self, site: Site, *rest: Any):
        self._site = site
        super().__init__(*rest)

    def do_GET(self) -> None:
        """Sends what lies at the path, under a policy that lets the page load from here and nowhere else."""
        found = self._site.answer("/index.html" if self.path == "/" else self.path.partition("?")[0])
        kind, content = found or ("text/plain; charset=utf-8", b"There is nothing here.\n")
        self.send_response(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND)
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

    def log_message(self, *words: Any) -> None:
        """Says nothing: the page's own requests are of no interest."""


def server(site: Site, port: int = 0) -> ThreadingHTTPServer:
    """A server on this machine's own address, not yet serving; port 0 takes a free one."""
    made = ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, site))
    made.daemon_threads = True
    return made


def serve(versions: Mapping[str, Path], port: int) -> None:
    """Serves the page for these versions, by case, until it is interrupted.

    Raises:
        FileNotFoundError: if LiteRT.js or a model is missing, naming the command that brings it.
        OSError: if the port is taken.
    """
    with server(Site(versions), port) as serving:
        print(f"http://127.0.0.1:{serving.server_port}/ (Ctrl-C ends it)", flush=True)
        with suppress(KeyboardInterrupt):
            serving.serve_forever()


def _page() -> dict[str, Path]:
    return {f"/{path.name}": path for path in (HERE / "page").iterdir()}


def _packages() -> dict[str, Path]:
    files = {
        "/litert/core.js": PACKAGES / "core" / "dist" / "index.js",
        "/litert/wasm-utils.js": PACKAGES / "wasm-utils" / "dist" / "index.js",
    }
    if missing := [path for path in files.values() if not path.is_file()]:
        raise FileNotFoundError(f"{missing[0].parent.parent.name} of LiteRT.js is not installed: `make browser`.")
    wasm = (path for path in (PACKAGES / "core" / "wasm").iterdir() if path.suffix in TYPES)
    return files | {f"/litert/wasm/{path.name}": path for path in wasm}


def _policy(page: str) -> str:
    """What the page may load: from here, WebAssembly, and the one import map that it has in it, by its hash."""
    (import_map,) = IMPORT_MAP.findall(page)
    digest = base64.b64encode(hashlib.sha256(import_map.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'sha256-{digest}'; connect-src 'self'; "
        "style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
