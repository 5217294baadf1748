"""Incident *drift*: traffic drifts until the live gateway's monitor opens an incident; undo sends traffic without drift."""

import json
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import orjson

from models import spans
from models.use_case import UseCase
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

DRIFTED, QUIET, PATIENCE = 2, 5, 120.0
SETTLED = 60.0  # seconds that the monitor gets to close the incident, if the days sent are enough for that
CONNECTIONS = 8


def run(live: LiveSystem) -> Iterator[IncidentEvent]:
    """Send days with the drift of the use case's demonstration, and wait for the drift incident."""
    server.find_server(live)
    case = scratch.find_demo_case()
    shift = case.load("demo").SHIFT
    if open_incidents := read_open_incidents(live, case):
        since = format_window(open_incidents[0]["opened"], True)
        raise MissingPrerequisiteError(
            f"A drift incident is open already, since {since}: undo it, or run `showcase monitor {case.name}`."
        )
    first = find_next_span(live, case)
    yield IncidentEvent(f"From day {first} on, {shift.summary}.", "bad", {"day": first})
    yield from _send_days(live, case, first, DRIFTED, shift.change)
    incident = wait_until(
        lambda: read_open_incidents(live, case), PATIENCE, "The monitor of the gateway did not open an incident"
    )[0]
    causes, since = ", ".join(incident["causes"]), format_window(incident["opened"], True)
    yield IncidentEvent(f"Incident {incident['id']}: drift since {since}: {causes}.", "good", incident)
    yield IncidentEvent(f"`showcase monitor {case.name} --home {live.home}` would decide whether to retrain.")


def undo(live: LiveSystem) -> Iterator[IncidentEvent]:
    """Send days without the drift, and report whether the monitor has closed the incident."""
    server.find_server(live)
    case = scratch.find_demo_case()
    first = find_next_span(live, case)
    yield IncidentEvent(f"From day {first} on, the traffic has no drift.", "info", {"day": first})
    yield from _send_days(live, case, first, QUIET, "")
    try:
        wait_until(
            lambda: not read_open_incidents(live, case),
            SETTLED,
            "The monitor of the gateway did not close the incident",
        )
        yield IncidentEvent("No drift incident is open.", "good")
    except IncidentFailedError:
        # The reference profile of a version that was trained on other days than these may differ from them.
        (incident, *_) = read_open_incidents(live, case)
        yield IncidentEvent(
            f"The traffic has no drift. Incident {incident['id']} stays open until enough windows have no alarm."
        )


def read_open_incidents(live: LiveSystem, case: UseCase) -> list[dict[str, Any]]:
    """Return the open drift incidents of the live monitor."""
    try:
        history = json.loads(Home(live.home).case(case.name).monitor_state.read_text())["judge"]["incidents"]["seen"]
    except FileNotFoundError:
        return []
    return [incident for incident in history if incident["kind"] == "drift" and incident["state"] == "open"]


def find_next_span(live: LiveSystem, case: UseCase) -> int:
    """Return the number of the span after the last day that was trained on or served."""
    trained = scratch.find_last_pushed_run(live.home, case)
    last = max(trained.settings["data"]["last_day"], _read_last_logged_day(live, case))
    return last + 1 - _read_first_date(live, case)


def _read_last_logged_day(live: LiveSystem, case: UseCase) -> int:
    records = read_log(Home(live.home).case(case.name).online / PREDICTIONS)
    return max((decode(record, (case.time,))[case.time][0] // 86_400 for _, record in records), default=-1)


def _read_first_date(live: LiveSystem, case: UseCase) -> int:
    """Return the date of span 0, in days since the epoch."""
    first = find_first_run(live, case)
    if not case.load("traffic").read_generator_settings(first.source):
        raise MissingPrerequisiteError(
            "The model was not trained on generated rows, so the rows that follow them cannot be generated."
        )
    return (
        date.fromisoformat(json.loads(Path(first.source, "truth.json").read_text())["start"]) - date(1970, 1, 1)
    ).days


def find_first_run(live: LiveSystem, case: UseCase) -> Run:
    """Return the first run that pushed: its data are generated, while later runs train on rows that were served."""
    scratch.find_last_pushed_run(live.home, case)
    return next(run for run in Home(live.home).runs(case.name) if run.state == "pushed")


def list_trained_drift(live: LiveSystem, case: UseCase) -> list[str]:
    """Return the drift that the served model was retrained on, if the demonstration came to a retraining."""
    runtime = local_runtime(live.home)
    decision_ids = {decision.id for decision in decisions.list_decisions(runtime, case.name)}
    pushed = store.pushed_runs(runtime.metadata, case.name)
    if not any(run.decision in decision_ids for run in pushed):
        return []
    return list(case.load("demo").plan_traffic(live.home / "data", _read_settings(live, case)).drift)


def _read_settings(live: LiveSystem, case: UseCase) -> dict[str, Any]:
    first = find_first_run(live, case)
    generator = case.load("traffic").read_generator_settings(first.source) or {}
    return case.configure({})["data"] | first.settings["data"] | generator


def _send_days(live: LiveSystem, case: UseCase, first: int, days: int, drift: str) -> Iterator[IncidentEvent]:
    """Send days, and the beginning of the day after them: a window ends when a later row arrives."""
    all_drift = [*list_trained_drift(live, case), *([f"{drift}@{first}"] if drift else [])]
    with scratch.make_folder(live) as cache:
        folder = case.load("traffic").generated(cache, first + days + 1, all_drift, _read_settings(live, case))
        for day in range(first, first + days + 1):
            report = _send_day(live, case, folder, day, last=day == first + days)
            if report.failed:
                raise IncidentFailedError(
                    f"{report.failed} of {report.sent} requests failed; answers by status: {dict(report.statuses)}."
                )
            if day < first + days:
                yield IncidentEvent(
                    f"Day {day}: {report.sent} requests were scored, none failed.", "info", {"sent": report.sent}
                )
        shutil.rmtree(folder)


def _send_day(live: LiveSystem, case: UseCase, folder: Path, day: int, last: bool) -> Any:
    address, every = server.find_server(live), case.load("demo").SHIFT.every
    spans.select_window(folder, day, day)
    rows = case.load("traffic").requests(str(folder), "", folder, (day, day), [], _read_settings(live, case))
    bodies = [orjson.dumps(body) for number, (body, _) in enumerate(rows) if number % every == 0]
    requests = ScoringClient(f"{address['host']}:{address['gateway']}", case)
    return requests.send(bodies[:50] if last else bodies, 0, CONNECTIONS)
