"""Evidence on rollouts: a push, a canary, a promotion and a rollback under load, run now, with the versions that answered."""

import asyncio
import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from pipeline.online import rollouts
from serving import rollout
from serving.gateway.stack import ServedCase, Stack, StackSettings
from serving.http import asyncio_server
from serving.request_sender import Sender, TrafficReport
from serving.server.app import ServerOptions
from tour.evidence.context import Context
from tour.evidence.result_types import Result, Table

REQUESTS, CONNECTIONS, SHARE = 240, 8, 0.3
SETTLED = 1.1  # the loader ignores a folder that was written within the last second
SECONDS = 60.0


def canary_and_rollback(context: Context) -> list[Result]:
    """A21: the versions on disk, the outcome of the last runs, and a push, a canary and a rollback run now."""
    folder = context.served.parent
    now = rollout.read(folder)
    pushed = {run.pushed_folder.name: run for run in context.runs if run.facts.get("pushed")}
    versions = tuple(
        (number, "stable" if number == rollout.stable_version(folder, now) else "", pushed[str(number)].reason)
        if str(number) in pushed
        else (number, "", "pushed by a run that is not recorded")
        for number in rollout.list_versions(folder)
    )
    gates = tuple((run.id, run.state, run.reason) for run in context.runs[-5:])
    columns = ("step", "rollout", "requests", "failed requests", "answers by version", "p50 ms", "p99 ms")
    return [
        Table("Versions on disk", ("version", "role", "reason of its run"), versions),
        Table("Outcome of the last runs", ("run", "state", "reason"), gates),
        Table(
            f"Rollout run now: {REQUESTS} requests per step over {CONNECTIONS} connections",
            columns,
            tuple(run_rollout(context)),
        ),
    ]


def run_rollout(context: Context) -> list[tuple[Any, ...]]:
    """One row per step, on two copies of the served version; the home itself is not changed."""
    with tempfile.TemporaryDirectory(prefix="rollout-") as name:
        folder = Path(name, "versions")
        for version in ("1", "2"):
            shutil.copytree(context.served, Path(name, "copies", version))
        folder.mkdir()
        os.rename(Path(name, "copies", "1"), folder / "1")
        time.sleep(SETTLED)
        return asyncio_server.run(_steps(context, Path(name), folder))


async def _steps(context: Context, root: Path, folder: Path) -> list[tuple[Any, ...]]:
    online = context.case.load("online_requests").online()
    place, name = ServedCase(online, folder, root / "online"), context.case.name
    running = await Stack(
        StackSettings({name: place}, ServerOptions(rest_port=None, grpc_port=None, poll=0.1), port=0)
    ).start()
    bodies, rows = _bodies(context), []
    assert running.gateway and running.app, "the stack starts gateway and model server"
    scorer, manager = running.gateway.scorers[name], running.app.engine.manager

    async def step(description: str) -> None:
        sender = Sender("127.0.0.1", running.port, f"/v1/{name}/score", context.case.load("traffic").check)
        report = await sender.run(itertools.islice(bodies, REQUESTS), 0, CONNECTIONS)
        rows.append((description, rollouts.describe_rollout(folder, rollout.read(folder)), *_row(report)))

    async def wait_until_loaded(*versions: int) -> None:
        ends = time.monotonic() + SECONDS
        while set(manager.loaded(name)) != set(versions) or scorer.rollout != rollout.read(folder):
            if time.monotonic() > ends:
                raise TimeoutError(f"{context.case.name}: versions {versions} were not loaded within {SECONDS:g} s.")
            await asyncio.sleep(0.05)

    try:
        await step("version 1 answers")
        rollout.promote(folder, 1)
        os.rename(root / "copies" / "2", folder / "2")
        await asyncio.sleep(SETTLED)
        rollout.promote(folder, 2, share=SHARE)
        await step("while version 2 is pushed as a canary")
        await wait_until_loaded(1, 2)
        await step("the canary answers its share of the requests")
        rollout.promote(folder, 2)
        await step("while version 2 is promoted")
        await wait_until_loaded(2)
        rollout.rollback(folder)
        await step("while version 2 is rolled back")
        await wait_until_loaded(1)
        await step("version 1 answers again")
    finally:
        await running.close()
    return rows


def _bodies(context: Context) -> Iterator[bytes]:
    """Rows of the last span that the run was trained on, again and again, as new requests each time."""
    facts = context.run.facts
    last = int(facts["spans"].partition(":")[2])
    settings = json.loads(facts["settings"])["data"]
    module = context.case.load("traffic")
    rows = module.requests(facts["source"], facts["source"], context.home, (last, last), [], settings)
    bodies = [body for body, _ in itertools.islice(rows, 2 * REQUESTS)]
    for number in itertools.count():
        for body in bodies:
            yield orjson.dumps(module.renew(body, number))


def _row(report: TrafficReport) -> tuple[Any, ...]:
    answers = ", ".join(f"{version}: {count}" for version, count in sorted(report.versions.items()))
    times = report.percentiles()
    return report.sent, report.failed, answers, times.get("p50", 0.0), times.get("p99", 0.0)
