"""Send heavy requests to the model server or the gateway from many clients at once, and measure whether it stays healthy.

    python -m benchmarks.hostile [--clients 50] [--timeout 120] [--only NAME ...] [--peer CHECKOUT] [--out FILE]

Each kind of request meets a server of its own, a process with the default limits and a small model. While the clients wait for
their answers, another process asks for the health every 50 ms. Then the same load is sent again, and the server has to
end on SIGTERM. ``--peer`` measures the server of another checkout, for example of an earlier commit, in turns with this one.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.hostile_bodies import MODEL, Body, build_bodies, export_model
from benchmarks.hostile_gateway import build_gateway_bodies
from benchmarks.hostile_load import is_healthy, probe_health, read_memory, send_bodies
from benchmarks.runs import ROOT, print_table, write_report
from models.training.distribute.local_processes import find_free_ports

START_SECONDS = 300
FREE_SECONDS = 3.0  # after which the memory of the last answers is freed
TERM_SECONDS = 60  # after which a server that did not heed SIGTERM is killed
STATUS = f"/v1/models/{MODEL}"  # of the model server
HEALTH = "/healthz"  # of the gateway
BARS = {"health_s": 1.0, "peak_gb": 1.5, "crashes": 0}


def main() -> None:
    """Measure all kinds of requests, print the tables and write the JSON."""
    options = _parse_arguments()
    checkouts = {"server": ROOT} | ({"peer": options.peer.resolve()} if options.peer else {})
    bodies = [
        body for body in chain(build_bodies(), build_gateway_bodies()) if not options.only or body.name in options.only
    ]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        export_model(Path(folder) / "1")
        for body in bodies:
            for name, checkout in checkouts.items():
                rows.append({"target": name, "request": body.name} | measure(checkout, Path(folder), body, options))
                print_table(f"{options.clients} clients", rows[-1:])
    print_table(f"{options.clients} clients at once", rows)
    bars = [compare_bars(name, rows) for name in checkouts]
    print_table("worst values and their bars", bars)
    write_report(options.out, clients=options.clients, requests=rows, bars=bars)


def measure(checkout: Path, model: Path, body: Body, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one kind of request against a new server."""
    with run_server(checkout, model, body) as (process, rest_port, grpc_port):
        idle = read_memory(process.pid, "VmRSS")
        began = time.perf_counter()
        with probe_health(rest_port, HEALTH if body.path else STATUS) as probe:
            send = send_bodies(rest_port, grpc_port, body, options.clients, options.timeout)
            statuses = asyncio.run(send)
        seconds = time.perf_counter() - began
        crashed = process.poll() is not None
        figures = {} if crashed else _read_memory_figures(process.pid, idle)
        return {
            "health_s": round(probe.slowest, 3),
            "unhealthy": probe.failures,
            **figures,
            "crashes": int(crashed),
            "seconds": round(seconds, 1),
            "term_s": 0.0 if crashed else round(measure_end(process, rest_port, grpc_port, body, options), 2),
            "statuses": " ".join(f"{status}:{count}" for status, count in sorted(statuses.items())),
        }


def _read_memory_figures(pid: int, idle: float) -> dict[str, float]:
    time.sleep(FREE_SECONDS)
    return {
        "idle_gb": round(idle, 2),
        "peak_gb": round(read_memory(pid, "VmHWM"), 2),
        "after_gb": round(read_memory(pid, "VmRSS"), 2),
    }


def measure_end(
    process: subprocess.Popen[bytes], rest_port: int, grpc_port: int, body: Body, options: argparse.Namespace
) -> float:
    """Return the seconds from SIGTERM, sent during the load, to the end of the process."""
    send = send_bodies(rest_port, grpc_port, body, options.clients, TERM_SECONDS)
    load = threading.Thread(target=lambda: asyncio.run(send), daemon=True)
    load.start()
    time.sleep(0.5)
    began = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(TERM_SECONDS)
    seconds = time.perf_counter() - began
    process.kill()
    load.join()
    return seconds


@contextmanager
def run_server(checkout: Path, model: Path, body: Body) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """Run the server that a body is for until the end of the context; yield its process, REST port and gRPC port."""
    rest_port, grpc_port = find_free_ports(2)
    flags = [f"--rest_api_port={rest_port}", f"--port={grpc_port}", "--host=127.0.0.1"]
    command = [sys.executable, "-m", "serving.server.model_server", *flags]
    command += [f"--model_name={MODEL}", f"--model_base_path={model}"]
    if body.path:
        folder = tempfile.mkdtemp(dir=model)
        command = [sys.executable, "-m", "benchmarks.hostile_gateway", str(rest_port), folder]
    process = subprocess.Popen(
        command,
        cwd=checkout,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_healthy(rest_port, HEALTH if body.path else STATUS):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"error: the server of {checkout.name} did not start.")
            time.sleep(0.2)
        yield process, rest_port, grpc_port
    finally:
        process.kill()
        process.wait()


def compare_bars(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the worst figures of a target beside their bars."""
    own = [row for row in rows if row["target"] == name]
    worst = {key: max(row.get(key, 0) for row in own) for key in BARS}
    met = all(worst[key] <= bar for key, bar in BARS.items()) and not any(row["unhealthy"] for row in own)
    bars = ", ".join(f"{key} <= {bar:g}" for key, bar in BARS.items())
    return {"target": name, **worst, "term_s": max(row["term_s"] for row in own), "bar": bars, "met": str(met)}


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=50, help="Number of requests at once.")
    parser.add_argument("--timeout", type=float, default=120.0, help="Seconds that a client waits for its answer.")
    parser.add_argument("--only", nargs="*", default=[], help="Names of the requests to send; by default all.")
    parser.add_argument("--peer", type=Path, help="Folder of another checkout, whose server is measured as well.")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/hostile.json", help="JSON to write.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
