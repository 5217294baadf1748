"""A bad model, twice: a candidate that has learnt nothing, and a version whose files are broken."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from pipeline.local import processes
from pipeline.local.local_runtime import local_runtime
from pipeline.online import rollouts
from serving import rollout
from tour.incidents import scratch
from tour.incidents.data import stages
from tour.incidents.incident import Event, FailedError, Live, until
from tour.incidents.server import version_of

LOADED = 60.0
MARK = "broken-on-purpose"
GARBAGE = b"no graph"


def run(live: Live) -> Iterator[Event]:
    """Trains a candidate for one step, which the gates refuse; then puts broken files beside what is served."""
    yield from candidate(live)
    there = rollouts.running(live.home)
    if not there or not there["rest"]:
        yield Event("No model server of this home runs with REST: the second half, a broken version, is left out.")
        return
    yield from broken(live, f"http://{there['host']}:{there['rest']}")


def candidate(live: Live) -> Iterator[Event]:
    """In a scratch home, against the same blessed model by the same gates."""
    case = scratch.cheapest(live.home)
    last = scratch.last_pushed(live.home, case)
    with scratch.copied(live, case) as home:
        yield Event(f"A candidate of {case.name} is trained for a single step.", "bad", {"case": case.name})
        words = ["run", case.name, "--home", home, "--data", last.facts["source"], "--spans", last.facts["spans"]]
        with scratch.child(
            [*words, "--set", "max_steps=1", "--tracking", "none", "--json"], home / "run.log"
        ) as process:
            yield from stages(home / "run.log", process)
            told = json.loads(processes.output(process).read() or "{}")
        if told.get("state") != "refused":
            raise FailedError(f"The candidate was not refused: {told.get('state')}: {told.get('reason')}")
        yield Event(f"Refused. {told['reason']}", "good", {"reason": told["reason"]})


def broken(live: Live, server: str) -> Iterator[Event]:
    """On the live system: the next version's number, and nothing in it that loads."""
    case = scratch.cheapest(live.home)
    folder = Path(local_runtime(live.home).versions(case.name))
    before, number = str(version_of(live, case)), max(rollout.versions(folder)) + 1
    beside = folder / f".{MARK}"
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        (beside / MARK).touch()
        (beside / "saved_model.pb").write_bytes(GARBAGE)
        beside.rename(folder / str(number))
        yield Event(f"Version {number} of {case.name} appears beside version {before}: its graph is garbage.", "bad")
        state = until(
            lambda: _failed(server, case.name, number), LOADED, "The server has not said what it thinks of it"
        )
        yield Event(f"The server refuses it: {state}", "good", {"version": number, "error": state})
        answering = _available(server, case.name)
        if answering != [before]:
            raise FailedError(f"Version {before} should answer, and it is {', '.join(answering) or 'none'}.")
        yield Event(f"Version {before} goes on answering.", "good", {"version": before})
    finally:
        removed = cleared(folder)
    yield Event(f"{len(removed)} broken version was taken away again.", "info", {"removed": removed})


def undo(live: Live) -> Iterator[Event]:
    """Takes away what a stopped incident may have left."""
    removed = [one for case in folders(live) for one in cleared(case)]
    yield Event(
        f"Broken versions that were left: {len(removed)}. The candidate was in a scratch copy, which is gone.", "good"
    )


def folders(live: Live) -> list[Path]:
    """Every case's folder of versions."""
    return sorted(live.home.glob("*/versions"))


def cleared(folder: Path) -> list[str]:
    """Removes the versions that were broken on purpose, and no others."""
    marks = list(folder.glob(f"*/{MARK}"))
    for mark in marks:
        shutil.rmtree(mark.parent)
    return [mark.parent.name for mark in marks]


def _states(server: str, case: str) -> list[dict[str, Any]]:
    try:
        return httpx.get(f"{server}/v1/models/{case}", timeout=10).json().get("model_version_status", [])
    except (httpx.HTTPError, ValueError):
        return []


def _failed(server: str, case: str, number: int) -> str:
    mine = [one["status"] for one in _states(server, case) if one["version"] == str(number)]
    return next((one["error_message"] for one in mine if one["error_code"] != "OK"), "")


def _available(server: str, case: str) -> list[str]:
    return [one["version"] for one in _states(server, case) if one["state"] == "AVAILABLE"]
