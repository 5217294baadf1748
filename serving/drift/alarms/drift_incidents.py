"""One alert an incident: what goes on is not told again, what comes back soon is the same."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

State = Literal["open", "resolved"]
News = Literal["alert", "resolved"]


@dataclass(frozen=True)
class Incident:
    """Something that is or was wrong.

    Attributes:
        id: Counts from 1.
        kind: What it is about; at most one of a kind is open.
        opened, last: First and last window with an alarm.
        causes: What moved, in the order in which it was first seen.
        state: Whether it goes on.
    """

    id: int
    kind: str
    opened: int
    last: int
    causes: tuple[str, ...]
    state: State = "open"


@dataclass(frozen=True)
class Incidents:
    """All incidents so far; every update gives a new value, so that it can be kept with what it follows from.

    Attributes:
        quiet: Windows without an alarm after which an incident is resolved.
        cooldown: Windows after its last alarm in which a resolved incident is taken up again, without an alert.
        seen: Every incident.
    """

    quiet: int = 3
    cooldown: int = 7
    seen: tuple[Incident, ...] = ()

    def update(
        self, window: int, causes: Mapping[str, Sequence[str]]
    ) -> tuple["Incidents", list[tuple[News, Incident]]]:
        """Takes a window's alarms.

        Args:
            window: Number of the window; the same or an older one again changes nothing that is told.
            causes: By kind, what moved.

        Returns:
            The incidents afterwards, and what people should hear.
        """
        seen, news = list(self.seen), []
        for kind, moved in causes.items():
            if moved:
                news += _alarm(seen, kind, tuple(moved), window, self.cooldown)
        for place, one in enumerate(seen):
            if one.state == "open" and window - one.last >= self.quiet:
                seen[place] = replace(one, state="resolved")
                news.append(("resolved", seen[place]))
        return replace(self, seen=tuple(seen)), news

    @property
    def open(self) -> tuple[Incident, ...]:
        """Those that go on."""
        return tuple(one for one in self.seen if one.state == "open")

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a state file."""
        return asdict(self)

    @staticmethod
    def from_json(held: Mapping[str, Any]) -> "Incidents":
        """What :meth:`to_json` gave."""
        seen = tuple(Incident(**{**one, "causes": tuple(one["causes"])}) for one in held["seen"])
        return Incidents(held["quiet"], held["cooldown"], seen)


def _alarm(
    seen: list[Incident], kind: str, moved: tuple[str, ...], window: int, cooldown: int
) -> list[tuple[News, Incident]]:
    place = next((at for at in reversed(range(len(seen))) if seen[at].kind == kind), None)
    if place is not None and (seen[place].state == "open" or window - seen[place].last <= cooldown):
        one = seen[place]
        causes = tuple(dict.fromkeys([*one.causes, *moved]))
        seen[place] = replace(one, last=max(one.last, window), causes=causes, state="open")
        return []
    seen.append(Incident(len(seen) + 1, kind, window, window, moved))
    return [("alert", seen[-1])]
