"""Send a million requests through the gateway during ten version swaps and a rollback: nothing may fail or be lost.

    python -m benchmarks.million --home RUNS [--requests N] [--out FILE]

Copies a home's pushed fraud model, starts ``showcase serve`` on the copy in a child process and sends without pause.
Every version is the same network with another threshold, so that an answer shows which version it is from. Finally
the prediction log is read: it must contain each acknowledged prediction once, with the version that was answered.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from benchmarks.runs import ROOT, showcase_command, write_report
from models.catalog import find_use_case
from pipeline.home import Home
from serving import rollout
from serving.gateway.history.online_store import PREDICTIONS
from serving.gateway.log.log_files import read_log
from serving.gateway.log.tf_example import decode
from serving.http import asyncio_server
from serving.request_sender import Sender

CASE = "fraud"
SWAPS = 10
SETTLED = 90.0


class AnswerCheck:
    """Tracks which versions may answer at the moment, and which version gave each answer."""

    def __init__(self) -> None:
        self.answered: dict[str, int] = {}
        self.allowed: set[int] = set()
        self.not_live = 0

    def record(self, body: bytes, answer: dict[str, Any]) -> None:
        """Record an answer, and check its version against those that may answer now."""
        self.answered[answer["prediction_id"]] = answer["version"]
        self.not_live += answer["version"] not in self.allowed


def generate_rows(home: Path, count: int) -> Iterator[bytes]:
    """Yield ``count`` purchases: those of the days after training, repeated under new ids."""
    case = find_use_case(CASE)
    settings, traffic = case.configure({})["data"], case.load("traffic")
    folder = traffic.generated(home / "data", settings["days"] + traffic.DAYS, [], settings)
    rows = traffic.requests(str(folder), "", home / "data", (settings["days"], -1), [], settings)
    bodies = [body for body, _ in rows]
    for number in range(count):
        body = bodies[number % len(bodies)]
        yield orjson.dumps(body | {"transaction_id": f"{body['transaction_id']}-{number // len(bodies)}"})


async def swap_versions(
    home: Path, folder: Path, sender: Sender, watch: AnswerCheck, total: int
) -> list[dict[str, Any]]:
    """Push a version after each twelfth of the requests, roll back after the last; return what was done and when."""
    steps = []
    for number in range(2, SWAPS + 3):
        await _wait_until(lambda number=number: sender.report.sent >= total * (number - 1) // (SWAPS + 2))
        is_rollback = number == SWAPS + 2
        version = SWAPS if is_rollback else number
        watch.allowed.add(version)
        if is_rollback:
            rollout.write(folder, rollout.Rollout(stable=version))
        else:
            os.rename(home / "copies" / str(version), folder / str(version))
        before, started = sender.report.versions[version], time.perf_counter()
        await _wait_until(lambda version=version, before=before: sender.report.versions[version] > before + 100)
        seconds = time.perf_counter() - started
        await asyncio.sleep(2.0)  # requests in flight with the old version have ended by now
        watch.allowed = {version}
        steps.append(
            {
                "step": "rollback" if is_rollback else "push",
                "version": version,
                "at": sender.report.sent,
                "seconds": seconds,
            }
        )
    return steps


async def _wait_until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.05)


def copy_versions(source: Path, home: Path) -> Path:
    """Copy the model as version 1 in place and as later versions next to it, each with its own threshold."""
    folder = Home(home).case(CASE).versions
    folder.mkdir(parents=True)
    for version in range(1, SWAPS + 2):
        target = (folder if version == 1 else home / "copies") / str(version)
        shutil.copytree(source, target)
        path = target / "assets.extra" / "model.json"
        model_facts = json.loads(path.read_text())
        model_facts["operating_point"]["threshold"] = version / 100
        path.write_text(json.dumps(model_facts))
    return folder


def check_answer(answer: Mapping[str, Any]) -> str | None:
    """Return what is wrong with an answer, None if nothing; its threshold shows which version's files were used."""
    if answer["threshold"] != answer["version"] / 100:
        return "a threshold of another version"
    return find_use_case(CASE).load("traffic").check(answer)


async def measure(home: Path, folder: Path, port: int, total: int, connections: int) -> dict[str, Any]:
    """Send all requests during the swaps; return the report."""
    watch = AnswerCheck()
    watch.allowed = {1}
    sender = Sender("127.0.0.1", port, f"/v1/{CASE}/score", check_answer, watch.record)
    steps = asyncio.ensure_future(swap_versions(home, folder, sender, watch, total))
    report = await sender.run(generate_rows(home, total), 0, connections)
    finished_steps = await asyncio.wait_for(steps, SETTLED)
    return report.plain() | {"steps": finished_steps, "not_live": watch.not_live, "answered": watch.answered}


def count_lost(home: Path, answered: dict[str, int]) -> dict[str, int]:
    """Count the answers that the log lacks, has twice, or has with another version."""
    version_by_id: dict[str, int] = {}
    records = twice = 0
    for _, data in read_log(Home(home).case(CASE).online / PREDICTIONS):
        record = decode(data)
        name = record["served/id"][0].decode()
        records, twice = records + 1, twice + (name in version_by_id)
        version_by_id[name] = record["served/version"][0]
    return {
        "records": records,
        "twice": twice,
        "missing": sum(name not in version_by_id for name in answered),
        "other_version": sum(version_by_id.get(name, version) != version for name, version in answered.items()),
    }


def main() -> int:
    """Run the benchmark; return 1 if a request failed, was lost, or was answered by a version that was not live."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, required=True, help="Home with a pushed fraud model.")
    parser.add_argument("--requests", type=int, default=1_000_000, help="Number of requests.")
    parser.add_argument("--connections", type=int, default=32, help="Concurrent connections.")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/million.json", help="JSON to write.")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is ended as well
    source = Home(options.home).case(CASE).versions / "1"
    with tempfile.TemporaryDirectory(prefix="million-") as name:
        home = Path(name)
        folder = copy_versions(source, home)
        words = ["serve", CASE, "--home", str(home), "--port", "0", "--rest-port", "-1", "--grpc-port", "-1", "--json"]
        words += ["--timeout", "30"]  # long, so that slow answers on a busy machine do not count as failures
        server = subprocess.Popen(showcase_command(*words), stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None, "a pipe"
            port = int(json.loads(server.stdout.readline())["gateway"].rpartition(":")[2])
            report = asyncio_server.run(measure(home, folder, port, options.requests, options.connections))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)
        report |= {"log": count_lost(home, report.pop("answered"))}
    write_report(options.out, **report)
    print(json.dumps(report, indent=1))
    bad = (
        report["failed"]
        or report["not_live"]
        or any(report["log"][name] for name in ("twice", "missing", "other_version"))
    )
    return int(bool(bad) or report["log"]["records"] != report["statuses"]["200"])


if __name__ == "__main__":
    sys.exit(main())
