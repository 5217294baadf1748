"""Measure requests per second of the model server, of its HTTP floor, and of other ways to serve the same model.

    python -m benchmarks.serving [--home HOME] [--seconds 4] [--rounds 3] [--connections 1 8 32]
                                 [--also NAME=PORT:PATH:FILE ...] [--out FILE]

All servers run all the time; a load generator in a separate process measures one at a time, in interleaved rounds.
``--also`` adds a server that is running already, with the body to send to it. Requests call the fraud model's ``raw``
signature with one row each, as a client with plain JSON does. FastAPI and LitServe are in the optional group ``peers``.
"""

import argparse
import base64
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT, median, print_table, provide_home, write_report
from models.training.distribute.local_processes import find_free_ports
from pipeline.home import Home

START = 300
PEERS = ("fastapi", "litserve")
HEADS = "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"


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


def main() -> None:
    """Measure all servers, print the tables and write the JSON."""
    options = _parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are ended as well
    with provide_home(options.home, ("fraud", "image")) as home, ExitStack() as stack:
        targets = list(_start_targets(home, stack)) + [_parse_target(text) for text in options.also]
        for target in targets:
            _wait_until_listening(target)
        results = measure(targets, options.connections, options.seconds, options.rounds)
    summaries = {key: _summarise(runs) for key, runs in results.items()}
    rows = [{"target": name, "connections": at, **summary} for (name, at), summary in summaries.items()]
    print_table("requests per second, medians", rows)
    ratios = list(compare_targets(summaries))
    print_table("ratios and their targets", ratios)
    write_report(options.out, requests=rows, bars=ratios)


def measure(
    targets: Sequence[Target], connections: Sequence[int], seconds: float, rounds: int
) -> dict[tuple[str, int], list[dict[str, float]]]:
    """Return results by target and connections, in interleaved rounds, so that other load affects all targets alike."""
    results: dict[tuple[str, int], list[dict[str, float]]] = {(t.name, at): [] for t in targets for at in connections}
    for _ in range(rounds):
        for at in connections:
            for target in targets:
                results[target.name, at].append(_generate_load(target, at, seconds))
    return results


def compare_targets(rows: Mapping[tuple[str, int], Mapping[str, float]]) -> Iterator[dict[str, Any]]:
    """Yield the figures that have a target, if they were measured."""

    def ratio(what: str, name: str, reference: str, at: int, bar: str) -> Iterator[dict[str, Any]]:
        if (name, at) in rows and (reference, at) in rows and rows[reference, at]["rate"]:
            yield {"what": what, "value": rows[name, at]["rate"] / rows[reference, at]["rate"], "bar": bar}

    yield from ratio("REST fraud, 8 connections, times FastAPI", "server", "fastapi", 8, ">= 6")
    yield from ratio("REST fraud, 32 connections, times FastAPI", "server", "fastapi", 32, ">= 8")
    yield from ratio("REST fraud, 8 connections, times LitServe", "server", "litserve", 8, ">= 8")
    yield from ratio("REST fraud, 8 connections, share of the floor", "server", "floor", 8, ">= 0.45")
    yield from ratio("LiteRT, 8 connections, share of the floor", "server LiteRT", "floor", 8, "none")
    if ("server image", 1) in rows:
        yield {"what": "REST image p99 ms, 1 connection", "value": rows["server image", 1]["p99"], "bar": "<= 5"}
    yield from ratio("gRPC fraud, 8 at once, share of grpcio's floor", "server gRPC", "grpc-floor", 8, ">= 0.5")
    yield from ratio("gateway, 8 connections, share of the server", "gateway", "server", 8, ">= 0.4")


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


def _start_targets(home: Path, stack: ExitStack) -> Iterator[Target]:
    """Start every server and yield it with its request."""
    served, fraud = home, _find_latest_version(home, "fraud")
    row, image, dense, request = _build_requests(home)
    rest, grpc, lite_rest, lite_grpc, gateway = find_free_ports(5)
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
    yield Target("server", rest, _make_post("/v1/models/fraud:predict", row))
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


def _parse_target(text: str) -> Target:
    name, _, where = text.partition("=")
    port, path, file = where.split(":", 2)
    return Target(name, int(port), _make_post(path, Path(file).read_bytes()))


def _generate_load(target: Target, at: int, seconds: float) -> dict[str, float]:
    address = ["127.0.0.1"] if target.over == "load" else []
    command = [sys.executable, "-m", f"benchmarks.{target.over}", *address, str(target.port), str(at), str(seconds)]
    process = subprocess.run(command, input=target.request, capture_output=True, cwd=ROOT, check=True)
    result = json.loads(process.stdout)
    if result["wrong"]:
        sys.exit(f"error: {target.name} gave {result['wrong']} answers with an error.")
    return result


def _summarise(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    medians = {name: median([run[name] for run in runs]) for name in ("rate", "p50", "p99")}
    return medians | {"lowest": min(run["rate"] for run in runs), "highest": max(run["rate"] for run in runs)}


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


def _wait_until_listening(target: Target) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", target.port)) == 0:
                return
        time.sleep(0.2)
    sys.exit(f"error: {target.name} did not start within {START} s.")


def _find_latest_version(home: Path, case: str) -> Path:
    return max(Home(home).case(case).versions.iterdir(), key=lambda path: int(path.name) if path.name.isdigit() else -1)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--home", type=Path, help="Folder of all state; by default the pipeline is run in a temporary one."
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="Duration of one measurement, in seconds.")
    parser.add_argument("--rounds", type=int, default=3, help="Number of interleaved measurements of each.")
    parser.add_argument(
        "--connections", type=int, nargs="+", default=[1, 8, 32], help="Numbers of concurrent connections."
    )
    parser.add_argument(
        "--also", nargs="*", default=[], help="NAME=PORT:PATH:FILE of a running server, FILE the body to send."
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/serving.json", help="JSON to write.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
