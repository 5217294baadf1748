"""One window after the other, whichever version answered: the same for the gateway's monitor and for the pipeline's."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from serving.drift.alarms.alarm import Monitor, Rule, Verdict
from serving.drift.alarms.drift_incidents import Incident, Incidents, News
from serving.drift.profiles.profile import Profile
from serving.drift.reference.metric_estimate import Estimate
from serving.drift.reference.reference_profile import Normal

MOST = 20  # findings and windows that are kept for people
ALONE = 0.9  # share of a window's rows that one version has to have answered
SAMPLE = 100_000  # scores of a window that a metric is estimated from


@dataclass(frozen=True)
class Part:
    """What one version answered in a window: the profile of its rows, and their confidences, a sample of very many."""

    profile: Profile
    scores: np.ndarray

    def __add__(self, other: "Part") -> "Part":
        both = np.sort(np.concatenate([self.scores, other.scores]))
        # Of very many every n-th in order of size, which keeps their distribution.
        return Part(self.profile.merge(other.profile), both[:: -(-len(both) // SAMPLE)] if len(both) else both)


@dataclass(frozen=True)
class Judged:
    """What a window showed, as plain values.

    Attributes:
        window, rows, version: Its number, its rows, and the version that answered most of them.
        skipped: Why it was not judged; empty where it was.
        findings: The most surprising ones.
        moved: Columns that drifted.
        faults: Of the data.
        estimate, usual: The metric without labels in the window, and as measured before the push.
        news: What people should hear.
    """

    window: int
    rows: int
    version: int
    skipped: str = ""
    findings: tuple[Mapping[str, Any], ...] = ()
    moved: tuple[str, ...] = ()
    faults: tuple[Mapping[str, Any], ...] = ()
    estimate: Mapping[str, Any] | None = None
    usual: Mapping[str, Any] | None = None
    news: tuple[tuple[News, Mapping[str, Any]], ...] = ()

    @property
    def loss(self) -> float:
        """How much worse the metric is in estimation; 0 where nothing is estimated."""
        return self.usual["value"] - self.estimate["value"] if self.estimate and self.usual else 0.0

    @staticmethod
    def read(held: Mapping[str, Any]) -> "Judged":
        """What :func:`dataclasses.asdict` and JSON made of it."""
        lists = ("findings", "moved", "faults")
        news = tuple((what, one) for what, one in held["news"])
        return Judged(**{**held, **{name: tuple(held[name]) for name in lists}, "news": news})


@dataclass
class Judge:
    """Keeps what was seen of a case from window to window.

    Attributes:
        normal: What a version calls normal; raises ValueError where it does not say so.
        least: Windows with fewer rows are not judged.
        rule: When to alarm.
        version: Whose windows ``past`` holds.
    """

    normal: Callable[[int], Normal]
    least: int = 100
    rule: Rule = field(default_factory=Rule)
    incidents: Incidents = field(default_factory=Incidents)
    version: int = 0
    past: deque[tuple[str, Profile]] = field(default_factory=deque)

    def observe(self, window: int, parts: Mapping[int, Part]) -> Judged:
        """Judges the next window, from what each version answered in it."""
        rows = {version: part.profile.rows for version, part in parts.items()}
        version, total = max(rows, key=lambda one: (rows[one], one)), sum(rows.values())
        if skipped := self._skipped(rows[version], total):
            return Judged(window, total, version, skipped)
        if version != self.version:  # what another model calls normal cannot be compared
            self.version, self.past = version, deque()
        normal, part = self.normal(version), parts[version]
        monitor = Monitor(normal.baseline, self.rule, self.incidents, self.past)
        verdict = monitor.observe(window, normal.kind(window), part.profile)
        self.incidents = monitor.incidents
        return _judged(verdict, normal, part, total)

    def _skipped(self, most: int, total: int) -> str:
        if total < self.least:
            return f"{total} rows are too few; {self.least} are the least."
        return f"Two versions answered, neither {ALONE:.0%} of it." if most < ALONE * total else ""

    def state(self) -> dict[str, Any]:
        """Everything that the next window needs, as plain values."""
        past = [[kind, profile.to_bytes().decode()] for kind, profile in self.past]
        return {"version": self.version, "incidents": self.incidents.to_json(), "past": past}

    def load(self, state: Mapping[str, Any]) -> "Judge":
        """Takes what :meth:`state` gave."""
        self.version, self.incidents = state["version"], Incidents.from_json(state["incidents"])
        self.past = deque((kind, Profile.from_bytes(text.encode())) for kind, text in state["past"])
        return self


def _judged(verdict: Verdict, normal: Normal, part: Part, total: int) -> Judged:
    estimate: Estimate = normal.estimator.estimate(part.scores)
    return Judged(
        verdict.window,
        total,
        normal.version,
        "" if verdict.judged else "No day of its kind was in the reference.",
        tuple(asdict(one) for one in verdict.findings[:MOST]),
        tuple(verdict.moved),
        tuple(asdict(one) for one in verdict.faults),
        asdict(estimate),
        asdict(normal.usual),
        tuple((news, _plain(incident)) for news, incident in verdict.news),
    )


def _plain(incident: Incident) -> dict[str, Any]:
    return asdict(incident) | {"causes": list(incident.causes)}
