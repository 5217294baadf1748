"""Incident *drift*: purchases move online until the live gateway's monitor opens an incident; undo moves them back."""

import json
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import orjson

from models import spans
from models.catalog import find_use_case
from pipeline.home import Home
from pipeline.local.local_runtime import local_runtime
from pipeline.metadata import store
from pipeline.monitoring import decisions
from pipeline.run import Run
from serving.drift.profiles.windows import format_window
from serving.gateway.history.online_store import PREDICTIONS
from serving.gateway.log.log_files import read_log
from serving.gateway.log.tf_example import decode
from tour.incidents import scratch, server
from tour.incidents.incident import IncidentEvent, IncidentFailedError, LiveSystem, MissingPrerequisiteError, wait_until
from tour.incidents.requests import ScoringClient

CASE, MOVED = "fraud", "online:0.7"
THIN = 4  # every fourth purchase is sent, which is enough to judge a day
DRIFTED, QUIET, PATIENCE = 2, 5, 120.0
SETTLED = 60.0  # seconds that the monitor gets to close the incident, if the days sent are enough for that
CONNECTIONS = 8
TIME = "event_time"


def run(live: LiveSystem) -> Iterator[IncidentEvent]:
    """Send days on which most in-store purchases have moved online, and wait for the drift incident."""
    server.find_server(live)
    if open_incidents := read_open_incidents(live):
        since = format_window(open_incidents[0]["opened"], True)
        raise MissingPrerequisiteError(
            f"A drift incident is open already, since {since}: undo it, or run `showcase monitor {CASE}`."
        )
    first = find_next_span(live)
    yield IncidentEvent(
        f"From day {first} on, seven of ten in-store purchases are made online instead.", "bad", {"day": first}
    )
    yield from _send_days(live, first, DRIFTED, MOVED)
    incident = wait_until(
        lambda: read_open_incidents(live), PATIENCE, "The monitor of the gateway did not open an incident"
    )[0]
    causes, since = ", ".join(incident["causes"]), format_window(incident["opened"], True)
    yield IncidentEvent(f"Incident {incident['id']}: drift since {since}: {causes}.", "good", incident)
    yield IncidentEvent(f"`showcase monitor {CASE} --home {live.home}` would decide whether to retrain.")


def undo(live: LiveSystem) -> Iterator[IncidentEvent]:
    """Send days without the drift, and report whether the monitor has closed the incident."""
    server.find_server(live)
    first = find_next_span(live)
    yield IncidentEvent(f"From day {first} on, purchases have no drift.", "info", {"day": first})
    yield from _send_days(live, first, QUIET, "")
    try:
        wait_until(
            lambda: not read_open_incidents(live), SETTLED, "The monitor of the gateway did not close the incident"
        )
        yield IncidentEvent("No drift incident is open.", "good")
    except IncidentFailedError:
        # The reference profile of a version that was trained on other days than these may differ from them.
        (incident, *_) = read_open_incidents(live)
        yield IncidentEvent(
            f"Purchases have no drift. Incident {incident['id']} stays open until enough windows have no alarm."
        )


def read_open_incidents(live: LiveSystem) -> list[dict[str, Any]]:
    """Return the open drift incidents of the live monitor."""
    try:
        history = json.loads(Home(live.home).case(CASE).monitor_state.read_text())["judge"]["incidents"]["seen"]
    except FileNotFoundError:
        return []
    return [incident for incident in history if incident["kind"] == "drift" and incident["state"] == "open"]


def find_next_span(live: LiveSystem) -> int:
    """Return the number of the span after the last day that was trained on or served."""
    trained = scratch.find_last_pushed_run(live.home, find_use_case(CASE))
    last = max(trained.settings["data"]["last_day"], _read_last_logged_day(live))
    return last + 1 - _read_first_date(live)


def _read_last_logged_day(live: LiveSystem) -> int:
    records = read_log(Home(live.home).case(CASE).online / PREDICTIONS)
    return max((decode(record, (TIME,))[TIME][0] // 86_400 for _, record in records), default=-1)


def _read_first_date(live: LiveSystem) -> int:
    """Return the date of span 0, in days since the epoch."""
    first = find_first_run(live)
    truth = Path(first.source, "truth.json")
    if not truth.is_file():
        raise MissingPrerequisiteError(
            "The model was not trained on generated purchases, so purchases that follow cannot be generated."
        )
    return (date.fromisoformat(json.loads(truth.read_text())["start"]) - date(1970, 1, 1)).days


def find_first_run(live: LiveSystem) -> Run:
    """Return the first run that pushed: its data are generated, while later runs train on rows that were served."""
    scratch.find_last_pushed_run(live.home, find_use_case(CASE))
    return next(run for run in Home(live.home).runs(CASE) if run.state == "pushed")


def list_trained_drift(live: LiveSystem) -> list[str]:
    """Return the drift that the served model was retrained on, if the demonstration came to a retraining."""
    runtime = local_runtime(live.home)
    decision_ids = {decision.id for decision in decisions.list_decisions(runtime, CASE)}
    pushed = store.pushed_runs(runtime.metadata, CASE)
    if not any(run.decision in decision_ids for run in pushed):
        return []
    return list(find_use_case(CASE).load("demo").plan_traffic(live.home / "data", _read_settings(live)).drift)


def _read_settings(live: LiveSystem) -> dict[str, Any]:
    return find_use_case(CASE).configure({})["data"] | find_first_run(live).settings["data"]


def _send_days(live: LiveSystem, first: int, days: int, drift: str) -> Iterator[IncidentEvent]:
    """Send days, and the beginning of the day after them: a window ends when a later purchase arrives."""
    traffic = find_use_case(CASE).load("traffic")
    all_drift = [*list_trained_drift(live), *([f"{drift}@{first}"] if drift else [])]
    with scratch.make_folder(live) as cache:
        folder = traffic.generated(cache, first + days + 1, all_drift, _read_settings(live))
        for day in range(first, first + days + 1):
            report = _send_day(live, folder, day, last=day == first + days)
            if report.failed:
                raise IncidentFailedError(
                    f"{report.failed} of {report.sent} requests failed; answers by status: {dict(report.statuses)}."
                )
            if day < first + days:
                yield IncidentEvent(
                    f"Day {day}: {report.sent} purchases were scored, none failed.", "info", {"sent": report.sent}
                )
        shutil.rmtree(folder)


def _send_day(live: LiveSystem, folder: Path, day: int, last: bool) -> Any:
    case, address = find_use_case(CASE), server.find_server(live)
    spans.select_window(folder, day, day)
    rows = case.load("traffic").requests(str(folder), "", folder, day, day, [], _read_settings(live))
    bodies = [orjson.dumps(body) for number, (body, _) in enumerate(rows) if number % THIN == 0]
    requests = ScoringClient(f"{address['host']}:{address['gateway']}", case)
    return requests.send(bodies[:50] if last else bodies, 0, CONNECTIONS)
