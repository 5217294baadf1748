"""The types of an incident: its definition, its events, its errors, and the system that it breaks."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

EventKind = Literal["info", "good", "bad"]


@dataclass(frozen=True)
class IncidentEvent:
    """One step of an incident, to be shown to people.

    Attributes:
        text: One sentence.
        kind: ``bad`` for damage, ``good`` for a correct response of the system, ``info`` for the rest.
        data: The values in the text.
    """

    text: str
    kind: EventKind = "info"
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LiveSystem:
    """The live system that an incident breaks.

    Attributes:
        home: Folder of all state.
        gateway: HOST:PORT of the gateway; empty if nothing is served.
    """

    home: Path
    gateway: str = ""


Play = Callable[[LiveSystem], Iterator[IncidentEvent]]


@dataclass(frozen=True)
class StagedIncident:
    """A fault that happens in real life, caused on purpose.

    Attributes:
        name: Name on the command line.
        title: Title on the page.
        what: One sentence on what is done.
        undone: One sentence on what undoing does.
        run: Plays the incident and yields events as they happen; leaves nothing behind that ``undo`` does not revert.
        undo: Reverts the incident and yields events.
    """

    name: str
    title: str
    what: str
    undone: str
    run: Play
    undo: Play


class MissingPrerequisiteError(ValueError):
    """Something that an incident needs is missing."""


class IncidentFailedError(OSError):
    """The system did not respond as it should."""


def undo_nothing(live: LiveSystem) -> Iterator[IncidentEvent]:
    """Undo an incident that changed only a scratch copy."""
    yield IncidentEvent("Nothing to undo: only a scratch copy was broken, and it is deleted.", "good")


def wait_until(condition: Callable[[], Any], seconds: float, failure: str) -> Any:
    """Wait until a condition returns a true value and return the value.

    Raises:
        IncidentFailedError: with the message ``failure``, if the condition is not met in time.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise IncidentFailedError(f"{failure} within {seconds:.0f} s.")
        time.sleep(0.05)
    return value
