"""One million requests through the gateway with ten version swaps and one rollback: nothing may fail or be lost.

``python -m benchmarks.million --home RUNS [--requests N] [--out FILE]`` copies a home's pushed fraud model, starts ``showcase
serve`` on it in a process of its own and sends without pause. Every version is the same network with another calibration,
so that an answer shows which version it is from. At the end the log is read: each acknowledged prediction has to be in it
once, with the version that was answered.
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

from benchmarks.runs import ROOT, write
from models.catalog import find
from serving import rollout
from serving.gateway.history.online_store import PREDICTIONS
from serving.gateway.log.log_files import read
from serving.gateway.log.tf_example import decode
from serving.http import asyncio_server
from serving.traffic import Sender

CASE = "fraud"
SWAPS = 10
SETTLED = 90.0


class Watch:
    """Which versions may answer at the moment, and what was answered by which."""

    def __init__(self) -> None:
        self.answered: dict[str, int] = {}
        self.allowed: set[int] = set()
        self.not_live = 0

    def seen(self, body: bytes, answer: dict[str, Any]) -> None:
        """Takes an answer, and checks its version against those that may answer now."""
        self.answered[answer["prediction_id"]] = answer["version"]
        self.not_live += answer["version"] not in self.allowed


def rows(home: Path, count: int) -> Iterator[bytes]:
    """Purchases without end: those of the days after training, each time under new ids."""
    case = find(CASE)
    settings = case.configured({})["data"]
    sent = [body for body, _ in case.load("traffic").requests(None, "", home / "data", -1, -1, [], settings)]
    for number in range(count):
        body = sent[number % len(sent)]
        yield orjson.dumps(body | {"transaction_id": f"{body['transaction_id']}-{number // len(sent)}"})


async def swaps(home: Path, folder: Path, sender: Sender, watch: Watch, total: int) -> list[dict[str, Any]]:
    """Pushes a version after each eleventh part of the requests, and rolls back after the last; what was done and when."""
    steps = []
    for number in range(2, SWAPS + 3):
        await _until(lambda number=number: sender.report.sent >= total * (number - 1) // (SWAPS + 2))
        is_rollback = number == SWAPS + 2
        version = SWAPS if is_rollback else number
        watch.allowed.add(version)
        if is_rollback:
            rollout.write(folder, rollout.Rollout(stable=version))
        else:
            os.rename(home / "copies" / str(version), folder / str(version))
        before, began = sender.report.versions[version], time.perf_counter()
        await _until(lambda version=version, before=before: sender.report.versions[version] > before + 100)
        took = time.perf_counter() - began
        await asyncio.sleep(2.0)  # requests under way with the old version have ended by now
        watch.allowed = {version}
        steps.append(
            {
                "step": "rollback" if is_rollback else "push",
                "version": version,
                "at": sender.report.sent,
                "seconds": took,
            }
        )
    return steps


async def _until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.05)


def copies(source: Path, home: Path) -> Path:
    """Version 1 in place and the others beside, each with a threshold of its own."""
    folder = home / CASE / "versions"
    folder.mkdir(parents=True)
    for version in range(1, SWAPS + 2):
        target = (folder if version == 1 else home / "copies") / str(version)
        shutil.copytree(source, target)
        path = target / "assets.extra" / "model.json"
        model_facts = json.loads(path.read_text())
        model_facts["operating_point"]["threshold"] = version / 100
        path.write_text(json.dumps(model_facts))
    return folder


def check(answer: Mapping[str, Any]) -> str | None:
    """The threshold says which version's files an answer was made with."""
    if answer["threshold"] != answer["version"] / 100:
        return "a threshold of another version"
    return find(CASE).load("traffic").check(answer)


async def measured(home: Path, folder: Path, port: int, total: int, connections: int) -> dict[str, Any]:
    """The whole run."""
    watch = Watch()
    watch.allowed = {1}
    sender = Sender("127.0.0.1", port, f"/v1/{CASE}/score", check, watch.seen)
    steps = asyncio.ensure_future(swaps(home, folder, sender, watch, total))
    report = await sender.run(rows(home, total), 0, connections)
    finished_steps = await asyncio.wait_for(steps, SETTLED)
    return report.plain() | {"steps": finished_steps, "not_live": watch.not_live, "answered": watch.answered}


def lost(home: Path, answered: dict[str, int]) -> dict[str, int]:
    """What the log lacks, has twice, or has with another version."""
    version_by_id: dict[str, int] = {}
    records = twice = 0
    for _, data in read(home / CASE / "online" / PREDICTIONS):
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
    """The program; 1 if anything failed, was lost or came from a version that was not live."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/million.json")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is ended, too
    source = options.home / CASE / "versions" / "1"
    with tempfile.TemporaryDirectory(prefix="million-") as name:
        home = Path(name)
        folder = copies(source, home)
        words = ["serve", CASE, "--home", str(home), "--port", "0", "--rest-port", "-1", "--grpc-port", "-1", "--json"]
        words += ["--timeout", "30"]  # so that what fails has failed, and was not only slow on a busy machine
        server = subprocess.Popen([sys.executable, "-m", "cli.main", *words], stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None, "a pipe"
            port = int(json.loads(server.stdout.readline())["gateway"].rpartition(":")[2])
            report = asyncio_server.run(measured(home, folder, port, options.requests, options.connections))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)
        report |= {"log": lost(home, report.pop("answered"))}
    write(options.out, **report)
    print(json.dumps(report, indent=1))
    bad = (
        report["failed"]
        or report["not_live"]
        or any(report["log"][name] for name in ("twice", "missing", "other_version"))
    )
    return int(bool(bad) or report["log"]["records"] != report["statuses"]["200"])


if __name__ == "__main__":
    sys.exit(main())
