"""What an incident is, and what it is done to."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["info", "good", "bad"]


@dataclass(frozen=True)
class Event:
    """Something that has happened.

    Attributes:
        text: A sentence for people.
        kind: ``bad`` for what is broken, ``good`` for how the system has answered, ``info`` for the rest.
        data: The values in it.
    """

    text: str
    kind: Kind = "info"
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Live:
    """The system that is broken.

    Attributes:
        home: Folder of all state.
        gateway: HOST:PORT of the gateway; empty where nothing is served.
    """

    home: Path
    gateway: str = ""


Play = Callable[[Live], Iterator[Event]]


@dataclass(frozen=True)
class Incident:
    """Something that goes wrong in real life, done on purpose.

    Attributes:
        name: On the command line.
        title: On the page.
        what: What is done, in one sentence.
        undone: What undoing does, in one sentence.
        run: Does it, and tells what happens while it happens; leaves nothing behind but what ``undo`` takes back.
        undo: Takes it back.
    """

    name: str
    title: str
    what: str
    undone: str
    run: Play
    undo: Play


class MissingError(ValueError):
    """What an incident needs is not there."""


class FailedError(OSError):
    """The system has not answered as it should."""


def untouched(live: Live) -> Iterator[Event]:
    """Undoes an incident that only touched a scratch copy."""
    yield Event("Nothing to take back: it was done to a scratch copy, which is gone.", "good")


def until(true: Callable[[], Any], seconds: float, otherwise: str) -> Any:
    """Waits until something holds, and gives it.

    Raises:
        FailedError: saying ``otherwise``, if that takes too long.
    """
    ends = time.monotonic() + seconds
    while not (found := true()):
        if time.monotonic() > ends:
            raise FailedError(f"{otherwise} within {seconds:.0f} s.")
        time.sleep(0.05)
    return found
