"""Drift incidents: group alarms of consecutive windows, so that one incident sends one alert."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

State = Literal["open", "resolved"]
News = Literal["alert", "resolved"]


@dataclass(frozen=True)
class DriftIncident:
    """A period of alarms of one kind.

    Attributes:
        id: Counts from 1.
        kind: ``quality`` or ``drift``; at most one incident of a kind is open.
        opened, last: First and last window with an alarm.
        causes: Columns or faults, in the order of their first alarm.
        state: ``open``, or ``resolved`` once enough windows had no alarm.
    """

    id: int
    kind: str
    opened: int
    last: int
    causes: tuple[str, ...]
    state: State = "open"


@dataclass(frozen=True)
class DriftIncidents:
    """All incidents so far; immutable, so every update returns a new value.

    Attributes:
        quiet: Number of windows without an alarm after which an incident is resolved.
        cooldown: Number of windows after its last alarm within which a resolved incident is reopened without an alert.
        seen: Every incident.
    """

    quiet: int = 3
    cooldown: int = 7
    seen: tuple[DriftIncident, ...] = ()

    def update(
        self, window: int, causes: Mapping[str, Sequence[str]]
    ) -> tuple["DriftIncidents", list[tuple[News, DriftIncident]]]:
        """Add the alarms of a window.

        Args:
            window: Number of the window; a repeated or older window sends no further alert.
            causes: By kind of incident, the columns or faults with an alarm.

        Returns:
            The updated incidents, and those that were opened (alert) or resolved.
        """
        incidents, news = list(self.seen), []
        for kind, alarms in causes.items():
            if alarms:
                news += _record_alarm(incidents, kind, tuple(alarms), window, self.cooldown)
        for index, incident in enumerate(incidents):
            if incident.state == "open" and window - incident.last >= self.quiet:
                incidents[index] = replace(incident, state="resolved")
                news.append(("resolved", incidents[index]))
        return replace(self, seen=tuple(incidents)), news

    @property
    def open(self) -> tuple[DriftIncident, ...]:
        """Incidents that are not resolved."""
        return tuple(incident for incident in self.seen if incident.state == "open")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a state file."""
        return asdict(self)

    @staticmethod
    def from_json(state: Mapping[str, Any]) -> "DriftIncidents":
        incidents = tuple(DriftIncident(**{**fields, "causes": tuple(fields["causes"])}) for fields in state["seen"])
        return DriftIncidents(state["quiet"], state["cooldown"], incidents)


def _record_alarm(
    incidents: list[DriftIncident], kind: str, alarms: tuple[str, ...], window: int, cooldown: int
) -> list[tuple[News, DriftIncident]]:
    index = next((position for position in reversed(range(len(incidents))) if incidents[position].kind == kind), None)
    if index is not None and (incidents[index].state == "open" or window - incidents[index].last <= cooldown):
        incident = incidents[index]
        causes = tuple(dict.fromkeys([*incident.causes, *alarms]))
        incidents[index] = replace(incident, last=max(incident.last, window), causes=causes, state="open")
        return []
    incidents.append(DriftIncident(len(incidents) + 1, kind, window, window, alarms))
    return [("alert", incidents[-1])]
