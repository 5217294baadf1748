"""Incident *model*: an untrained candidate, which the gates refuse, and a version with broken files."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from pipeline.home import Home
from pipeline.local import processes
from pipeline.online import rollouts
from serving import rollout
from tour.incidents import scratch
from tour.incidents.broken_span import follow_stages
from tour.incidents.incident import IncidentEvent, IncidentFailedError, LiveSystem, wait_until
from tour.incidents.server import read_served_version

LOADED = 60.0
MARK = "broken-on-purpose"
GARBAGE = b"no graph"


def run(live: LiveSystem) -> Iterator[IncidentEvent]:
    """Train a candidate for one step, which the gates refuse; then add a version with broken files."""
    yield from train_refused_candidate(live)
    server = rollouts.find_running_server(live.home)
    if not server or not server["rest"]:
        yield IncidentEvent(
            "This home has no running model server with a REST port, so the second half, a broken version, is skipped."
        )
        return
    yield from add_broken_version(live, f"http://{server['host']}:{server['rest']}")


def train_refused_candidate(live: LiveSystem) -> Iterator[IncidentEvent]:
    """Train a candidate for one step in a scratch home, with the same blessed model and the same gates."""
    case = scratch.choose_cheapest_case(live.home)
    last = scratch.find_last_pushed_run(live.home, case)
    with scratch.copy_served_version(live, case) as home:
        yield IncidentEvent(f"A candidate of {case.name} is trained for one step.", "bad", {"case": case.name})
        words = ["run", case.name, "--home", home, "--data", last.source, "--spans", last.facts["spans"]]
        with scratch.run_child(
            [*words, "--set", "max_steps=1", "--tracking", "none", "--json"], home / "run.log"
        ) as process:
            yield from follow_stages(home / "run.log", process)
            outcome = json.loads(processes.output(process).read() or "{}")
        if outcome.get("state") != "refused":
            raise IncidentFailedError(f"The candidate was not refused: {outcome.get('state')}: {outcome.get('reason')}")
        yield IncidentEvent(f"Refused. {outcome['reason']}", "good", {"reason": outcome["reason"]})


def add_broken_version(live: LiveSystem, server: str) -> Iterator[IncidentEvent]:
    """Add a version that cannot be loaded to the live system, under the next number."""
    case = scratch.choose_cheapest_case(live.home)
    folder = Home(live.home).case(case.name).versions
    served, number = str(read_served_version(live, case)), max(rollout.list_versions(folder)) + 1
    staged = folder / f".{MARK}"
    try:
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        (staged / MARK).touch()
        (staged / "saved_model.pb").write_bytes(GARBAGE)
        staged.rename(folder / str(number))
        yield IncidentEvent(
            f"Version {number} of {case.name} appears next to version {served}: its graph is garbage.", "bad"
        )
        error = wait_until(
            lambda: _read_load_error(server, case.name, number), LOADED, "The server did not report the version's state"
        )
        yield IncidentEvent(f"The server refuses it: {error}", "good", {"version": number, "error": error})
        available = _list_available_versions(server, case.name)
        if available != [served]:
            raise IncidentFailedError(
                f"Only version {served} should be served, but it is {', '.join(available) or 'none'}."
            )
        yield IncidentEvent(f"Version {served} continues to answer.", "good", {"version": served})
    finally:
        removed = delete_broken_versions(folder)
    yield IncidentEvent(f"{len(removed)} broken version was deleted.", "info", {"removed": removed})


def undo(live: LiveSystem) -> Iterator[IncidentEvent]:
    """Delete the broken versions that an interrupted incident may have left."""
    removed = [version for folder in sorted(live.home.glob("*/versions")) for version in delete_broken_versions(folder)]
    yield IncidentEvent(
        f"Broken versions deleted: {len(removed)}. The candidate was in a scratch copy, which is deleted too.", "good"
    )


def delete_broken_versions(folder: Path) -> list[str]:
    """Delete the versions that this incident made, and no others; return their numbers."""
    marks = list(folder.glob(f"*/{MARK}"))
    for mark in marks:
        shutil.rmtree(mark.parent)
    return [mark.parent.name for mark in marks]


def _read_states(server: str, case: str) -> list[dict[str, Any]]:
    try:
        return httpx.get(f"{server}/v1/models/{case}", timeout=10).json().get("model_version_status", [])
    except (httpx.HTTPError, ValueError):
        return []


def _read_load_error(server: str, case: str, number: int) -> str:
    statuses = [state["status"] for state in _read_states(server, case) if state["version"] == str(number)]
    return next((status["error_message"] for status in statuses if status["error_code"] != "OK"), "")


def _list_available_versions(server: str, case: str) -> list[str]:
    return [state["version"] for state in _read_states(server, case) if state["state"] == "AVAILABLE"]
