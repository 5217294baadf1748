"""The command that breaks things: the incidents of :mod:`tour.incidents`, told line by line."""

import dataclasses
import json
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pipeline.online import rollouts
from tour import incidents

COLOURS = {"info": "", "good": "green", "bad": "red"}


def broken(name: str | None, undo: bool, home: Path, as_json: bool) -> None:
    """Lists the incidents, or does one, or takes it back; with ``as_json`` a line of JSON an event.

    Raises:
        ValueError: if there is no such incident, or what it needs is missing.
        OSError: if another is under way, or the system has not answered as it should.
    """
    console = Console()
    if name is None:
        for one in incidents.INCIDENTS.values():
            console.print(f"{one.name:8} {one.what}", highlight=False, markup=False, soft_wrap=True)
        return
    there = rollouts.running(home)
    gateway = f"{there['host']}:{there['gateway']}" if there and there["gateway"] else ""
    for event in incidents.play(name, incidents.Live(home, gateway), undo):
        if as_json:
            print(json.dumps(dataclasses.asdict(event)), flush=True)
        else:
            console.print(Text(event.text, COLOURS[event.kind]), soft_wrap=True)
