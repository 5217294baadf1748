"""Break it live: what goes wrong in real life, done on purpose, answered by the system while one looks on, and taken back.

``INCIDENTS`` names all; :func:`play` does one. Each breaks the live system or a scratch copy of what it needs from it, and
says which in what it tells.
"""

from collections.abc import Iterator, Mapping

from pipeline.metadata import store
from tour.incidents import cluster, data, drift, flood, model, server
from tour.incidents.incident import Event, FailedError, Incident, Live, MissingError, untouched

GONE = "There is nothing to undo: it is done to a scratch copy, which goes with it."
INCIDENTS: Mapping[str, Incident] = {
    one.name: one
    for one in (
        Incident(
            "schema",
            "Break the schema",
            "Purchases with an unknown category go through the pipeline, whose DataGate names the feature and stops the run.",
            GONE,
            data.run,
            untouched,
        ),
        Incident(
            "drift",
            "Let the traffic drift",
            "Purchases at the till move online, and the monitor beside the live gateway opens an incident.",
            "Undone by purchases as usual; the monitor closes the incident once its windows are quiet.",
            drift.run,
            drift.undo,
        ),
        Incident(
            "model",
            "Push a bad model",
            "The gates refuse a candidate trained for one step, and a garbage version beside the live one is not served.",
            "Undone by taking the garbage away, also where the incident was stopped.",
            model.run,
            model.undo,
        ),
        Incident(
            "worker",
            "Kill a worker",
            "Two processes train together, one gets SIGKILL, and the cluster starts again at its last checkpoint.",
            GONE,
            cluster.run,
            untouched,
        ),
        Incident(
            "server",
            "Kill the server",
            "The live server gets SIGKILL and is started again: the same version, and no acknowledged prediction is lost.",
            "There is nothing to undo: the server runs again, with the same words and ports.",
            server.run,
            server.undo,
        ),
        Incident(
            "flood",
            "Flood it with requests",
            "A gateway gets many times what it lets in: it refuses the rest with 429, and afterwards answers as before.",
            GONE,
            flood.run,
            untouched,
        ),
    )
}


def play(name: str, live: Live, undo: bool = False, incidents: Mapping[str, Incident] = INCIDENTS) -> Iterator[Event]:
    """Does an incident, or takes it back; one at a time in a home.

    Raises:
        BusyError: if another is under way.
        FailedError: if the system has not answered as it should.
        MissingError: if what it needs is not there, or there is no such incident.
    """
    if name not in incidents:
        raise MissingError(f"There is no incident '{name}'; there are {', '.join(incidents)}.")
    one = incidents[name]
    with store.alone(live.home / "break.lock", "incident"):
        yield from (one.undo if undo else one.run)(live)


__all__ = ["INCIDENTS", "Event", "FailedError", "Incident", "Live", "MissingError", "play"]
