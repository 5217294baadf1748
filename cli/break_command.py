"""The command ``break``: plays an incident of :mod:`tour.incidents` and prints its events line by line."""

import dataclasses
import json
from pathlib import Path

from rich.text import Text

from pipeline.online import rollouts
from pipeline.terminal import make_console
from tour import incidents
from tour.incidents.incident import LiveSystem

COLOURS = {"info": "", "good": "green", "bad": "red"}


def play_incident(name: str | None, undo: bool, home: Path, as_json: bool) -> None:
    """List the incidents, play one, or undo it.

    Args:
        name: Name of the incident; None lists all.
        undo: Undo the incident instead of playing it.
        home: Folder of all state.
        as_json: Print one line of JSON per event.

    Raises:
        ValueError: if there is no such incident, or something that it needs is missing.
        OSError: if another incident is being played, or the system did not respond as it should.
    """
    console = make_console()
    if name is None:
        for incident in incidents.INCIDENTS.values():
            console.print(f"{incident.name:8} {incident.what}", soft_wrap=True)
        return
    server = rollouts.find_running_server(home)
    gateway = f"{server['host']}:{server['gateway']}" if server and server["gateway"] else ""
    for event in incidents.play(name, LiveSystem(home, gateway), undo):
        if as_json:
            print(json.dumps(dataclasses.asdict(event)), flush=True)
        else:
            console.print(Text(event.text, COLOURS[event.kind]), soft_wrap=True)
