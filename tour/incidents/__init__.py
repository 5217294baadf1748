"""Incidents: faults of real life, caused on purpose, so that one can watch how the system responds, and then undone.

``INCIDENTS`` lists all of them and :func:`play` plays one. Each breaks either the live system or a scratch copy of the
parts that it needs; its events say which.
"""

from collections.abc import Iterator, Mapping

from pipeline.metadata import store
from tour.incidents import broken_span, drifting_traffic, flood, killed_worker, model, server
from tour.incidents.incident import IncidentEvent, LiveSystem, MissingPrerequisiteError, StagedIncident, undo_nothing

NOTHING_TO_UNDO = "There is nothing to undo: only a scratch copy is broken, and it is deleted afterwards."
INCIDENTS: Mapping[str, StagedIncident] = {
    incident.name: incident
    for incident in (
        StagedIncident(
            name="schema",
            title="Break the schema",
            what="Rows with values outside the schema enter the pipeline; DataGate names the feature and stops the run.",
            undone=NOTHING_TO_UNDO,
            run=broken_span.run,
            undo=undo_nothing,
        ),
        StagedIncident(
            name="drift",
            title="Drift the traffic",
            what="The distribution of the traffic changes, and the live gateway's monitor opens a drift incident.",
            undone="Undo sends rows without drift; the monitor closes the incident after enough quiet windows.",
            run=drifting_traffic.run,
            undo=drifting_traffic.undo,
        ),
        StagedIncident(
            name="model",
            title="Push a bad model",
            what="The gates refuse a candidate trained for one step, and the server refuses a version of garbage files.",
            undone="Undo deletes the garbage version that an interrupted incident may have left.",
            run=model.run,
            undo=model.undo,
        ),
        StagedIncident(
            name="worker",
            title="Kill a worker",
            what="Two worker processes train together, one gets SIGKILL, and the cluster restarts from its last checkpoint.",
            undone=NOTHING_TO_UNDO,
            run=killed_worker.run,
            undo=undo_nothing,
        ),
        StagedIncident(
            name="server",
            title="Kill the server",
            what="The live server gets SIGKILL and restarts with the same version; no acknowledged prediction is lost.",
            undone="There is nothing to undo: the server was restarted with the same arguments and ports.",
            run=server.run,
            undo=server.undo,
        ),
        StagedIncident(
            name="flood",
            title="Flood the gateway with requests",
            what="A gateway gets many times its rate limit, refuses the excess with 429, and then answers as before.",
            undone=NOTHING_TO_UNDO,
            run=flood.run,
            undo=undo_nothing,
        ),
    )
}


def play(
    name: str, live: LiveSystem, undo: bool = False, incidents: Mapping[str, StagedIncident] = INCIDENTS
) -> Iterator[IncidentEvent]:
    """Play or undo an incident; only one at a time runs in a home.

    Raises:
        BusyError: if another incident is being played.
        IncidentFailedError: if the system did not respond as it should.
        MissingPrerequisiteError: if there is no such incident, or something that it needs is missing.
    """
    if name not in incidents:
        raise MissingPrerequisiteError(f"There is no incident '{name}'; there are {', '.join(incidents)}.")
    incident = incidents[name]
    with store.exclusive_lock(live.home / "break.lock", "incident"):
        yield from (incident.undo if undo else incident.run)(live)
