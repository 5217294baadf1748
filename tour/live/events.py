"""What happened between two looks at a home, in words."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from tour.live.cases import Case


@dataclass(frozen=True)
class Event:
    """Something that happened, and when it was seen."""

    at: str
    case: str
    text: str
    state: str = ""


def happened(old: tuple[Case, ...], new: tuple[Case, ...], gateway_before: str, gateway: str) -> list[Event]:
    """What is different, the oldest first."""
    at, found = datetime.now().strftime("%H:%M:%S"), []
    if gateway != gateway_before:
        text = f"The gateway answers at {gateway}." if gateway else "The gateway does not answer any more."
        found.append(Event(at, "", text, "ok" if gateway else "bad"))
    past = {one.name: one for one in old}
    for case in new:
        before = past.get(case.name, Case(case.name, case.title))
        if case != before:
            parts = (_run(before, case), _versions(before, case), _drift(before, case))
            found += [Event(at, case.name, text, state) for part in parts for text, state in part]
    return found


def _run(old: Case, new: Case) -> Iterator[tuple[str, str]]:
    if new.run is None:
        return
    past = old.run if old.run is not None and old.run.id == new.run.id else None
    if past is None:
        yield f"Run {new.run.id} began.", "running"
    states = {one.name: one.state for one in old.graph.stages} if past and old.graph else {}
    for one in new.graph.stages if new.graph else ():
        if one.state not in (states.get(one.name), "waiting", "not reached"):
            yield f"{one.name}: {one.state}" + (f" in {one.seconds:.1f} s" if one.seconds else ""), one.state
    if new.run.state != "running" and not (past and past.state == new.run.state):
        yield f"{new.run.state}: {new.run.reason}", new.run.state


def _versions(old: Case, new: Case) -> Iterator[tuple[str, str]]:
    if new.rollout != old.rollout and new.rollout:
        yield f"Versions: {new.rollout}.", "info"


def _drift(old: Case, new: Case) -> Iterator[tuple[str, str]]:
    known = {(one["id"], one["state"]) for one in old.incidents}
    for one in new.incidents:
        if (one["id"], one["state"]) not in known:
            causes = f": {', '.join(one['causes'])}" if one["causes"] else ""
            is_open = one["state"] == "open"
            yield f"{one['kind']} incident {one['id']} is {one['state']}{causes}", "open" if is_open else "ok"
    if new.decided != old.decided and new.decided:
        yield f"Decided: {new.decided}", "info"
