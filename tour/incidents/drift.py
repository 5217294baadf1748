"""Incident *drift*: purchases move online until the live gateway's monitor opens an incident; undo moves them back."""

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
THIN = 4  # every fourth purchase is sent, which is enough to judge a day
DRIFTED, QUIET, PATIENCE = 2, 5, 120.0
SETTLED = 60.0  # seconds that the monitor gets to close the incident, if the days sent are enough for that
CONNECTIONS = 8
TIME = "event_time"


def run(live: Live) -> Iterator[Event]:
    """Send days on which most in-store purchases have moved online, and wait for the drift incident."""
    server.running(live)
    if open_incidents := incidents(live):
        since = open_incidents[0]["opened"]
        raise MissingError(
            f"A drift incident is open already, since window {since}: undo it, or run `showcase monitor {CASE}`."
        )
    first = following(live)
    yield Event(f"From day {first} on, seven of ten in-store purchases are made online instead.", "bad", {"day": first})
    yield from _send_days(live, first, DRIFTED, MOVED)
    incident = until(lambda: incidents(live), PATIENCE, "The monitor of the gateway did not open an incident")[0]
    causes = ", ".join(incident["causes"])
    yield Event(f"Incident {incident['id']}: drift since window {incident['opened']}: {causes}.", "good", incident)
    yield Event(f"`showcase monitor {CASE} --home {live.home}` would decide whether to retrain.")


def undo(live: Live) -> Iterator[Event]:
    """Send days without the drift, and report whether the monitor has closed the incident."""
    server.running(live)
    first = following(live)
    yield Event(f"From day {first} on, purchases have no drift.", "info", {"day": first})
    yield from _send_days(live, first, QUIET, "")
    try:
        until(lambda: not incidents(live), SETTLED, "The monitor of the gateway did not close the incident")
        yield Event("No drift incident is open.", "good")
    except FailedError:
        # The reference profile of a version that was trained on other days than these may differ from them.
        (incident, *_) = incidents(live)
        yield Event(
            f"Purchases have no drift. Incident {incident['id']} stays open until enough windows have no alarm."
        )


def incidents(live: Live) -> list[dict[str, Any]]:
    """Return the open drift incidents of the live monitor."""
    try:
        history = json.loads((live.home / CASE / "online" / STATE).read_text())["judge"]["incidents"]["seen"]
    except FileNotFoundError:
        return []
    return [incident for incident in history if incident["kind"] == "drift" and incident["state"] == "open"]


def following(live: Live) -> int:
    """Return the number of the span after the last day that was trained on or served."""
    trained = scratch.last_pushed(live.home, find(CASE))
    last = max(json.loads(trained.facts["settings"])["data"]["last_day"], _read_last_logged_day(live))
    return last + 1 - _read_first_date(live)


def _read_last_logged_day(live: Live) -> int:
    records = read(live.home / CASE / "online" / PREDICTIONS)
    return max((decode(record, (TIME,))[TIME][0] // 86_400 for _, record in records), default=-1)


def _read_first_date(live: Live) -> int:
    """Return the date of span 0, in days since the epoch."""
    first = first_run(live)
    truth = Path(first.facts["source"], "truth.json")
    if not truth.is_file():
        raise MissingError(
            "The model was not trained on generated purchases, so purchases that follow cannot be generated."
        )
    return (date.fromisoformat(json.loads(truth.read_text())["start"]) - date(1970, 1, 1)).days


def first_run(live: Live) -> store.Run:
    """Return the first run that pushed: its data are generated, while later runs train on rows that were served."""
    scratch.last_pushed(live.home, find(CASE))
    return next(run for run in store.runs(local_runtime(live.home).metadata, CASE) if run.state == "pushed")


def world(live: Live) -> list[str]:
    """Return the drift that the served model was retrained on, if the demonstration came to a retraining."""
    runtime = local_runtime(live.home)
    decision_ids = {decision.id for decision in decisions.all_of(runtime, CASE)}
    pushed = [run for run in store.runs(runtime.metadata, CASE) if run.state == "pushed"]
    if not any(run.facts.get("decision") in decision_ids for run in pushed):
        return []
    return list(find(CASE).load("demo").shown(live.home / "data", _read_settings(live)).drift)


def _read_settings(live: Live) -> dict[str, Any]:
    return find(CASE).configured({})["data"] | json.loads(first_run(live).facts["settings"])["data"]


def _send_days(live: Live, first: int, days: int, drift: str) -> Iterator[Event]:
    """Send days, and the beginning of the day after them: a window ends when a later purchase arrives."""
    traffic = find(CASE).load("traffic")
    all_drift = [*world(live), *([f"{drift}@{first}"] if drift else [])]
    with scratch.empty(live) as cache:
        folder = traffic.generated(cache, first + days + 1, all_drift, _read_settings(live))
        for day in range(first, first + days + 1):
            report = _send_day(live, folder, day, last=day == first + days)
            if report.failed:
                raise FailedError(
                    f"{report.failed} of {report.sent} requests failed; answers by status: {dict(report.statuses)}."
                )
            if day < first + days:
                yield Event(
                    f"Day {day}: {report.sent} purchases were scored, none failed.", "info", {"sent": report.sent}
                )
        shutil.rmtree(folder)


def _send_day(live: Live, folder: Path, day: int, last: bool) -> Any:
    case, address = find(CASE), server.running(live)
    spans.window(folder, day, day)
    rows = case.load("traffic").requests(str(folder), "", folder, day, day, [], _read_settings(live))
    bodies = [orjson.dumps(body) for number, (body, _) in enumerate(rows) if number % THIN == 0]
    requests = Requests(f"{address['host']}:{address['gateway']}", case)
    return requests.send(bodies[:50] if last else bodies, 0, CONNECTIONS)
