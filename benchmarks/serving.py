"""How many requests a second the model server answers, beside its own floor and other ways to serve the same model.

    python -m benchmarks.serving [--home HOME] [--seconds 4] [--rounds 3] [--connections 1 8 32]
                                 [--also NAME=PORT:PATH:FILE ...] [--out FILE]

Every server runs all the time, one is asked at a time, in turns, by a load generator in a process of its own. ``--also`` adds a
server that runs already, with the body that it is to be sent. The fraud model is asked by its ``raw`` signature, one row a
request, as a client with plain JSON has it. FastAPI and LitServe are in the optional group ``peers``.
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

from benchmarks.runs import ROOT, home_of, median, show, write

START = 300
PEERS = ("fastapi", "litserve")
HEADS = "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"


@dataclass(frozen=True)
class Target:
    """What is asked.

    Attributes:
        name: Its row.
        port: Where it listens.
        request: What is sent: a whole HTTP request, or a serialized ``PredictRequest``.
        over: Which load generator: ``load`` or ``load_grpc``.
    """

    name: str
    port: int
    request: bytes
    over: str = "load"


def main() -> None:
    """Measures all, prints the tables and writes the JSON."""
    options = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are ended, too
    with home_of(options.home, ("fraud", "image")) as home, ExitStack() as stack:
        targets = list(_targets(home, stack)) + [_also(text) for text in options.also]
        for target in targets:
            _wait(target)
        results = measure(targets, options.connections, options.seconds, options.rounds)
    middles = {key: _middle(runs) for key, runs in results.items()}
    rows = [{"target": name, "connections": at, **middle} for (name, at), middle in middles.items()]
    show("requests a second, medians", rows)
    ratios = list(compared(middles))
    show("against the bars", ratios)
    write(options.out, requests=rows, bars=ratios)


def measure(
    targets: Sequence[Target], connections: Sequence[int], seconds: float, rounds: int
) -> dict[tuple[str, int], list[dict[str, float]]]:
    """Results by target and connections, a round after the other, so that what else the machine does hits all alike."""
    results: dict[tuple[str, int], list[dict[str, float]]] = {(t.name, at): [] for t in targets for at in connections}
    for _ in range(rounds):
        for at in connections:
            for target in targets:
                results[target.name, at].append(_load(target, at, seconds))
    return results


def compared(rows: Mapping[tuple[str, int], Mapping[str, float]]) -> Iterator[dict[str, Any]]:
    """What the bars ask for, where it was measured."""

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


# What a client of the gateway sends; the gateway finds the other twenty features itself.
PURCHASE = {
    "transaction_id": "9f86d08188",
    "event_time": "2026-04-06T12:00:00Z",
    "customer_id": "c000012",
    "merchant_id": "m00012",
    "amount": 27.84,
    "category": "grocery",
    "channel": "contactless",
    "device": "phone",
    "distance_km": 3.2,
}


def _targets(home: Path, stack: ExitStack) -> Iterator[Target]:
    """Starts every server, and says what to send it."""
    served, fraud = home, _latest(home, "fraud")
    row, image, dense, request = _requests(home)
    rest, grpc, lite_rest, lite_grpc, gateway = _ports(5)
    command = ["cli.main", "serve", "--no-gateway", "--home", str(served)]
    stack.enter_context(_program(*command, "--rest-port", rest, "--grpc-port", grpc))
    # The gateway writes a log, which is not the home's: its own home has the versions by a link.
    apart = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    (apart / "fraud").mkdir()
    (apart / "fraud" / "versions").symlink_to(fraud.parent.resolve())
    words = ["--home", apart, "--port", gateway, "--rest-port", -1, "--grpc-port", -1]
    stack.enter_context(_program("cli.main", "serve", "fraud", *words))
    yield Target("gateway", gateway, _post("/v1/fraud/score", json.dumps(PURCHASE).encode()))
    stack.enter_context(_program(*command, "--rest-port", lite_rest, "--grpc-port", lite_grpc, "--prefer-tflite"))
    yield Target("server", rest, _post("/v1/models/fraud:predict", row))
    yield Target("server dense", rest, _post("/v1/models/fraud:predict", dense))
    yield Target("server LiteRT", lite_rest, _post("/v1/models/fraud:predict", dense))
    yield Target("server image", rest, _post("/v1/models/image:predict", image))
    yield Target("server gRPC", grpc, request, "load_grpc")
    for kind, body in (("floor", _post("/", row)), ("grpc-floor", request), ("grpc-floor-sync", request)):
        (port,) = _ports(1)
        stack.enter_context(_program("benchmarks.served", kind, port))
        yield Target(kind, port, body, "load_grpc" if kind.startswith("grpc") else "load")
    for kind in PEERS:
        if importlib.util.find_spec(kind) is None:
            print(f"{kind} is not installed: `uv sync --group peers` brings it")
            continue
        (port,) = _ports(1)
        words = ["benchmarks.served", kind] if kind == "fastapi" else ["benchmarks.peer_litserve"]
        stack.enter_context(_program(*words, port, fraud))
        yield Target(kind, port, _post("/predict", row))


def _requests(home: Path) -> tuple[bytes, bytes, bytes, bytes]:
    """From the requests that the check before the push has sent: a raw row, an image, a dense row, a PredictRequest."""
    import numpy as np
    from tensorflow_serving.apis import predict_pb2

    from serving.server.conversion import tensor_protos

    def sent(case: str) -> dict[str, Any]:
        paths = sorted(
            (home / case / "artifacts/ServingCheck/blessing").glob("*/requests.npz"), key=lambda p: p.stat().st_mtime
        )
        with np.load(paths[-1], allow_pickle=True) as loaded:
            return {name: loaded[name][:1] for name in loaded.files}

    def row(arrays: Mapping[str, Any], signature: str) -> bytes:
        inputs = {
            name.split("/")[1]: _plain(value[0]) for name, value in arrays.items() if name.startswith(f"{signature}/")
        }
        return json.dumps({"signature_name": signature, "instances": [inputs]}).encode()

    fraud = sent("fraud")
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "fraud", "raw"
    for name, value in fraud.items():
        if name.startswith("raw/"):
            tensor_protos.to_proto(request.inputs[name.split("/")[1]], value)
    example = base64.b64encode(sent("image")["serving_default/examples"][0]).decode()
    image = json.dumps({"instances": [{"b64": example}]}).encode()
    return row(fraud, "raw"), image, row(fraud, "dense"), request.SerializeToString()


def _plain(value: Any) -> Any:
    return (
        [item.decode() if isinstance(item, bytes) else item for item in value.tolist()]
        if value.ndim == 1
        else value.tolist()
    )


def _post(path: str, body: bytes) -> bytes:
    return HEADS.format(path=path, length=len(body)).encode() + body


def _also(text: str) -> Target:
    name, _, where = text.partition("=")
    port, path, file = where.split(":", 2)
    return Target(name, int(port), _post(path, Path(file).read_bytes()))


def _load(target: Target, at: int, seconds: float) -> dict[str, float]:
    address = ["127.0.0.1"] if target.over == "load" else []
    command = [sys.executable, "-m", f"benchmarks.{target.over}", *address, str(target.port), str(at), str(seconds)]
    process = subprocess.run(command, input=target.request, capture_output=True, cwd=ROOT, check=True)
    result = json.loads(process.stdout)
    if result["wrong"]:
        sys.exit(f"error: {target.name} gave {result['wrong']} wrong answers.")
    return result


def _middle(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    medians = {name: median([run[name] for run in runs]) for name in ("rate", "p50", "p99")}
    return medians | {"lowest": min(run["rate"] for run in runs), "highest": max(run["rate"] for run in runs)}


@contextmanager
def _program(*words: Any) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        # Killed TensorFlow processes leave files behind.
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
                os.killpg(process.pid, signal.SIGKILL)  # LitServe leaves its worker behind


def _wait(target: Target) -> None:
    ends = time.monotonic() + START
    while time.monotonic() < ends:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", target.port)) == 0:
                return
        time.sleep(0.2)
    sys.exit(f"error: {target.name} did not start within {START} s.")


def _ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for socket_ in sockets:
            socket_.bind(("127.0.0.1", 0))
        return [socket_.getsockname()[1] for socket_ in sockets]


def _latest(home: Path, case: str) -> Path:
    return max((home / case / "versions").iterdir(), key=lambda path: int(path.name) if path.name.isdigit() else -1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--home", type=Path, help="Folder of runs; without it the pipeline is run into a temporary one."
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="Time of one measurement.")
    parser.add_argument("--rounds", type=int, default=3, help="Measurements of each, in turns.")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32], help="Connections at once.")
    parser.add_argument("--also", nargs="*", default=[], help="NAME=PORT:PATH:FILE of a server that runs already.")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/serving.json", help="JSON to write.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
