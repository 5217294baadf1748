"""The servers that ``benchmarks.serving`` measures, each started as a process, and the request that it gets."""

import base64
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT
from models.training.distribute.local_processes import find_free_ports
from pipeline.home import Home

PEERS = ("fastapi", "litserve")
HEADS = "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
# The request of a gateway client; the gateway computes the other twenty features.
PURCHASE = {
    "transaction_id": "##########",
    "event_time": "2026-04-06T12:00:00Z",
    "customer_id": "c000012",
    "merchant_id": "m00012",
    "amount": 27.84,
    "category": "grocery",
    "channel": "contactless",
    "device": "phone",
    "distance_km": 3.2,
}


@dataclass(frozen=True)
class Target:
    """A server to measure.

    Attributes:
        name: Name in the table.
        port: Port that it listens on.
        request: A complete HTTP request, or a serialized ``PredictRequest``.
        over: Load generator: ``load`` or ``load_grpc``.
    """

    name: str
    port: int
    request: bytes
    over: str = "load"


def start_targets(home: Path, stack: ExitStack) -> Iterator[Target]:
    """Start every server and yield it with its request."""
    served, fraud = home, _find_latest_version(home, "fraud")
    row, image, dense, request = _build_requests(home)
    rest, grpc, lite_rest, lite_grpc, session_rest, session_grpc, gateway = find_free_ports(7)
    command = ["cli.main", "serve", "--no-gateway", "--home", str(served)]
    stack.enter_context(_run_module(*command, "--rest-port", rest, "--grpc-port", grpc))
    # The gateway gets its own home with a link to the versions, so that its log is not written to the measured home.
    gateway_home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    (gateway_home / "fraud").mkdir()
    (gateway_home / "fraud" / "versions").symlink_to(fraud.parent.resolve())
    words = ["--home", gateway_home, "--port", gateway, "--rest-port", -1, "--grpc-port", -1]
    stack.enter_context(_run_module("cli.main", "serve", "fraud", *words))
    yield Target("gateway", gateway, _make_post("/v1/fraud/score", json.dumps(PURCHASE).encode()))
    stack.enter_context(_run_module(*command, "--rest-port", lite_rest, "--grpc-port", lite_grpc, "--prefer-tflite"))
    words = ["--rest-port", session_rest, "--grpc-port", session_grpc, "--no-raw-tflite"]
    stack.enter_context(_run_module(*command, *words))
    yield Target("server", rest, _make_post("/v1/models/fraud:predict", row))
    yield Target("server SavedModel", session_rest, _make_post("/v1/models/fraud:predict", row))
    yield Target("server SavedModel gRPC", session_grpc, request, "load_grpc")
    yield Target("server dense", rest, _make_post("/v1/models/fraud:predict", dense))
    yield Target("server LiteRT", lite_rest, _make_post("/v1/models/fraud:predict", dense))
    yield Target("server image", rest, _make_post("/v1/models/image:predict", image))
    yield Target("server gRPC", grpc, request, "load_grpc")
    for kind, body in (("floor", _make_post("/", row)), ("grpc-floor", request), ("grpc-floor-sync", request)):
        (port,) = find_free_ports(1)
        stack.enter_context(_run_module("benchmarks.served", kind, port))
        yield Target(kind, port, body, "load_grpc" if kind.startswith("grpc") else "load")
    for kind in PEERS:
        if importlib.util.find_spec(kind) is None:
            print(f"{kind} is not installed; install it with `uv sync --group peers`")
            continue
        (port,) = find_free_ports(1)
        words = ["benchmarks.served", kind] if kind == "fastapi" else ["benchmarks.peer_litserve"]
        stack.enter_context(_run_module(*words, port, fraud))
        yield Target(kind, port, _make_post("/predict", row))


def _build_requests(home: Path) -> tuple[bytes, bytes, bytes, bytes]:
    """Build a raw row, an image, a dense row and a PredictRequest from the requests that ServingCheck stored."""
    import numpy as np
    from tensorflow_serving.apis import predict_pb2

    from serving.server.conversion import tensor_protos

    def load_requests(case: str) -> dict[str, Any]:
        paths = sorted(
            (home / case / "artifacts/ServingCheck/blessing").glob("*/requests.npz"), key=lambda p: p.stat().st_mtime
        )
        with np.load(paths[-1], allow_pickle=True) as loaded:
            return {name: loaded[name][:1] for name in loaded.files}

    def make_row(arrays: Mapping[str, Any], signature: str) -> bytes:
        inputs = {
            name.split("/")[1]: _to_plain(value[0])
            for name, value in arrays.items()
            if name.startswith(f"{signature}/")
        }
        return json.dumps({"signature_name": signature, "instances": [inputs]}).encode()

    fraud = load_requests("fraud")
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "fraud", "raw"
    for name, value in fraud.items():
        if name.startswith("raw/"):
            tensor_protos.to_proto(request.inputs[name.split("/")[1]], value)
    example = base64.b64encode(load_requests("image")["serving_default/examples"][0]).decode()
    image = json.dumps({"instances": [{"b64": example}]}).encode()
    return make_row(fraud, "raw"), image, make_row(fraud, "dense"), request.SerializeToString()


def _to_plain(value: Any) -> Any:
    return (
        [item.decode() if isinstance(item, bytes) else item for item in value.tolist()]
        if value.ndim == 1
        else value.tolist()
    )


def _make_post(path: str, body: bytes) -> bytes:
    return HEADS.format(path=path, length=len(body)).encode() + body


def parse_target(text: str) -> Target:
    """Parse ``NAME=PORT:PATH:FILE``: a server that runs already, and the file with the body to send to it."""
    name, _, where = text.partition("=")
    port, path, file = where.split(":", 2)
    return Target(name, int(port), _make_post(path, Path(file).read_bytes()))


@contextmanager
def _run_module(*words: Any) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        # Killed TensorFlow processes leave temporary files.
        environment = os.environ | {"TMPDIR": folder, "TF_CPP_MIN_LOG_LEVEL": "3"}
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, words)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # LitServe does not end its worker process


def _find_latest_version(home: Path, case: str) -> Path:
    return max(Home(home).case(case).versions.iterdir(), key=lambda path: int(path.name) if path.name.isdigit() else -1)
