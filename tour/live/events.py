"""Changes between two states of a home, as sentences."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from tour.live.cases import CaseState


@dataclass(frozen=True)
class Event:
    """A change, and the time at which it was detected."""

    at: str
    case: str
    text: str
    state: str = ""


def find_changes(
    old: tuple[CaseState, ...], new: tuple[CaseState, ...], gateway_before: str, gateway: str
) -> list[Event]:
    """Changes from the old to the new state, oldest first."""
    at, events = datetime.now().strftime("%H:%M:%S"), []
    if gateway != gateway_before:
        text = f"The gateway answers at {gateway}." if gateway else "The gateway no longer answers."
        events.append(Event(at, "", text, "ok" if gateway else "bad"))
    past = {case.name: case for case in old}
    for case in new:
        before = past.get(case.name, CaseState(case.name, case.title))
        if case != before:
            parts = (_run_changes(before, case), _rollout_changes(before, case), _drift_changes(before, case))
            events += [Event(at, case.name, text, state) for part in parts for text, state in part]
    return events


def _run_changes(old: CaseState, new: CaseState) -> Iterator[tuple[str, str]]:
    if new.run is None:
        return
    past = old.run if old.run is not None and old.run.id == new.run.id else None
    if past is None:
        yield f"Run {new.run.id} began.", "running"
    states = {stage.name: stage.state for stage in old.graph.stages} if past and old.graph else {}
    for stage in new.graph.stages if new.graph else ():
        if stage.state not in (states.get(stage.name), "waiting", "not reached"):
            seconds = f" in {stage.seconds:.1f} s" if stage.seconds else ""
            yield f"{stage.name}: {stage.state}{seconds}", stage.state
    if new.run.state != "running" and not (past and past.state == new.run.state):
        yield f"{new.run.state}: {new.run.reason}", new.run.state


def _rollout_changes(old: CaseState, new: CaseState) -> Iterator[tuple[str, str]]:
    if new.rollout != old.rollout and new.rollout:
        yield f"Versions: {new.rollout}.", "info"


def _drift_changes(old: CaseState, new: CaseState) -> Iterator[tuple[str, str]]:
    reported = {(incident["id"], incident["state"]) for incident in old.incidents}
    for incident in new.incidents:
        if (incident["id"], incident["state"]) not in reported:
            causes = f": {', '.join(incident['causes'])}" if incident["causes"] else ""
            state = "open" if incident["state"] == "open" else "ok"
            yield f"{incident['kind']} incident {incident['id']} is {incident['state']}{causes}", state
    if new.decided != old.decided and new.decided:
        yield f"Decided: {new.decided}", "info"
