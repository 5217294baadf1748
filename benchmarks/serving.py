"""Measure requests per second of the model server, of its HTTP floor, and of other ways to serve the same model.

    python -m benchmarks.serving [--home HOME] [--seconds 4] [--rounds 3] [--connections 1 8 32]
                                 [--only TARGET ...] [--also NAME=PORT:PATH:FILE ...] [--out FILE]

All servers run all the time; a load generator in a separate process measures one at a time, in interleaved rounds.
``--only`` measures the named targets alone, and ``--also`` adds a server that is running already, with the body to send to
it. Requests call the fraud model's ``raw`` signature with one row each, as a client with plain JSON does: ``server`` answers
it by LiteRT, ``server SavedModel`` by TensorFlow. FastAPI and LitServe are in the optional group ``peers``.
"""

import argparse
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT, median, print_table, provide_home, write_report
from benchmarks.serving_targets import Target, parse_target, start_targets

START = 300


def main() -> None:
    """Measure all servers, print the tables and write the JSON."""
    options = _parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are ended as well
    with provide_home(options.home, ("fraud", "image")) as home, ExitStack() as stack:
        started = [t for t in start_targets(home, stack) if not options.only or t.name in options.only]
        targets = started + [parse_target(text) for text in options.also]
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

    def ratio(
        what: str, name: str, reference: str, at: int, bar: str, figure: str = "rate"
    ) -> Iterator[dict[str, Any]]:
        if (name, at) in rows and (reference, at) in rows and rows[reference, at][figure]:
            yield {"what": what, "value": rows[name, at][figure] / rows[reference, at][figure], "bar": bar}

    session = "server SavedModel"
    yield from ratio("REST raw p50, 1 connection, share of the SavedModel's", "server", session, 1, "<= 0.4", "p50")
    yield from ratio("REST raw, 8 connections, times the SavedModel", "server", session, 8, ">= 2")
    yield from ratio("REST fraud, 8 connections, times FastAPI", "server", "fastapi", 8, ">= 20")
    yield from ratio("REST fraud, 32 connections, times FastAPI", "server", "fastapi", 32, ">= 8")
    yield from ratio("REST fraud, 8 connections, times LitServe", "server", "litserve", 8, ">= 17")
    yield from ratio("REST fraud, 8 connections, share of the floor", "server", "floor", 8, ">= 0.45")
    yield from ratio("LiteRT, 8 connections, share of the floor", "server LiteRT", "floor", 8, "none")
    if ("server image", 1) in rows:
        yield {"what": "REST image p99 ms, 1 connection", "value": rows["server image", 1]["p99"], "bar": "<= 5"}
    yield from ratio("gRPC fraud, 8 at once, share of grpcio's floor", "server gRPC", "grpc-floor", 8, ">= 0.55")
    yield from ratio("gateway, 8 connections, share of the SavedModel server", "gateway", session, 8, ">= 1")


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


def _wait_until_listening(target: Target) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", target.port)) == 0:
                return
        time.sleep(0.2)
    sys.exit(f"error: {target.name} did not start within {START} s.")


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
    parser.add_argument("--only", nargs="*", default=[], help="Targets to measure; all by default.")
    parser.add_argument(
        "--also", nargs="*", default=[], help="NAME=PORT:PATH:FILE of a running server, FILE the body to send."
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/serving.json", help="JSON to write.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
