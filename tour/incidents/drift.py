"""Drift: purchases move online until the monitor beside the live gateway opens an incident; then they move back."""

import json
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import orjson

from models import spans
from models.catalog import find
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.monitoring import decisions
from serving.drift.gateway_monitor import STATE
from serving.gateway.history.online_store import PREDICTIONS
from serving.gateway.log.log_files import read
from serving.gateway.log.tf_example import decode
from tour.incidents import scratch, server
from tour.incidents.incident import Event, FailedError, Live, MissingError, until
from tour.incidents.requests import Requests

CASE, MOVED = "fraud", "online:0.7"
THIN = 4  # one purchase in so many is sent: enough to judge a day by
DRIFTED, QUIET, PATIENCE = 2, 5, 120.0
SETTLED = 60.0  # seconds for the monitor to close the incident, if the days sent are enough for that
CONNECTIONS = 8
TIME = "event_time"


def run(live: Live) -> Iterator[Event]:
    """Sends days on which most purchases at the till have moved online, and waits for the alarm."""
    server.running(live)
    if opened := incidents(live):
        since = opened[0]["opened"]
        raise MissingError(f"A drift incident is open already, since window {since}: undo it, or have it answered.")
    first = following(live)
    yield Event(f"From day {first} on seven of ten purchases at the till are made online.", "bad", {"day": first})
    yield from _sent(live, first, DRIFTED, MOVED)
    opened = until(lambda: incidents(live), PATIENCE, "The monitor beside the gateway has not opened an incident")
    causes = ", ".join(opened[0]["causes"])
    yield Event(f"Incident {opened[0]['id']}: drift since window {opened[0]['opened']}: {causes}.", "good", opened[0])
    yield Event(f"`showcase monitor {CASE} --home {live.home}` would decide what follows from it.")


def undo(live: Live) -> Iterator[Event]:
    """Sends days as usual, and says whether the monitor has closed the incident."""
    server.running(live)
    first = following(live)
    yield Event(f"From day {first} on purchases are as they were before.", "info", {"day": first})
    yield from _sent(live, first, QUIET, "")
    try:
        until(lambda: not incidents(live), SETTLED, "The monitor beside the gateway has not closed the incident")
        yield Event("No drift incident is open.", "good")
    except FailedError:
        # A version that was trained on other days than these may call something else normal.
        (one, *_) = incidents(live)
        yield Event(
            f"Purchases are as before. Incident {one['id']} stays open until the monitor has seen quiet windows."
        )


def incidents(live: Live) -> list[dict[str, Any]]:
    """Those of drift that are open, by the live monitor."""
    try:
        seen = json.loads((live.home / CASE / "online" / STATE).read_text())["judge"]["incidents"]["seen"]
    except FileNotFoundError:
        return []
    return [one for one in seen if one["kind"] == "drift" and one["state"] == "open"]


def following(live: Live) -> int:
    """The day, counted as spans are, after the last that was learnt from or served."""
    learnt = scratch.last_pushed(live.home, find(CASE))
    last = max(json.loads(learnt.facts["settings"])["data"]["last_day"], _logged(live))
    return last + 1 - _begin(live)


def _logged(live: Live) -> int:
    records = read(live.home / CASE / "online" / PREDICTIONS)
    return max((decode(one, (TIME,))[TIME][0] // 86_400 for _, one in records), default=-1)


def _begin(live: Live) -> int:
    """The date of span 0, in days since the epoch."""
    first = first_run(live)
    truth = Path(first.facts["source"], "truth.json")
    if not truth.is_file():
        raise MissingError(
            "The model was not trained on generated purchases, so none can be generated that go on from them."
        )
    return (date.fromisoformat(json.loads(truth.read_text())["start"]) - date(1970, 1, 1)).days


def first_run(live: Live) -> store.Run:
    """The first run that pushed: what it has learnt from is generated, later ones have collected what was served."""
    scratch.last_pushed(live.home, find(CASE))
    return next(run for run in store.runs(local_runtime(live.home).metadata, CASE) if run.state == "pushed")


def world(live: Live) -> list[str]:
    """The drift that is usual by now: what a retraining has taken in, if the demonstration came to one."""
    runtime = local_runtime(live.home)
    decided = {one.id for one in decisions.all_of(runtime, CASE)}
    pushed = [run for run in store.runs(runtime.metadata, CASE) if run.state == "pushed"]
    if not any(run.facts.get("decision") in decided for run in pushed):
        return []
    return list(find(CASE).load("demo").shown(live.home / "data", _settings(live)).drift)


def _settings(live: Live) -> dict[str, Any]:
    return find(CASE).configured({})["data"] | json.loads(first_run(live).facts["settings"])["data"]


def _sent(live: Live, first: int, days: int, drift: str) -> Iterator[Event]:
    """Sends days, and the beginning of the one after, without which the last would not be over."""
    traffic = find(CASE).load("traffic")
    wanted = [*world(live), *([f"{drift}@{first}"] if drift else [])]
    with scratch.empty(live) as cache:
        folder = traffic.generated(cache, first + days + 1, wanted, _settings(live))
        for day in range(first, first + days + 1):
            report = _day(live, folder, day, last=day == first + days)
            if report.failed:
                raise FailedError(f"{report.failed} of {report.sent} requests failed: {dict(report.statuses)}.")
            if day < first + days:
                yield Event(
                    f"Day {day}: {report.sent} purchases were scored, none failed.", "info", {"sent": report.sent}
                )
        shutil.rmtree(folder)


def _day(live: Live, folder: Path, day: int, last: bool) -> Any:
    case, there = find(CASE), server.running(live)
    spans.window(folder, day, day)
    rows = case.load("traffic").requests(str(folder), "", folder, day, day, [], _settings(live))
    thin = [orjson.dumps(body) for number, (body, _) in enumerate(rows) if number % THIN == 0]
    requests = Requests(f"{there['host']}:{there['gateway']}", case)
    return requests.send(thin[:50] if last else thin, 0, CONNECTIONS)
