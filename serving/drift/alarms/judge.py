"""Judge the windows of a case in order, whichever version answered; used by the gateway monitor and the pipeline."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from serving.drift.alarms.alarm import AlarmRule, DriftVerdict, WindowMonitor
from serving.drift.alarms.drift_incidents import DriftIncident, DriftIncidents, News
from serving.drift.profiles.profile import Profile
from serving.drift.reference.metric_estimate import MetricEstimate
from serving.drift.reference.reference_profile import ReferenceProfile

MAX_STORED = 20  # findings and windows that are stored for display
MIN_VERSION_SHARE = (
    0.9  # smallest share of a window's rows that one version must have answered for the window to be judged
)
MAX_SCORES = 100_000  # largest number of scores of a window that the metric is estimated from


@dataclass(frozen=True)
class WindowPart:
    """The rows of a window that one version answered.

    Attributes:
        profile: Profile of the rows.
        scores: Their confidences, sorted; a sample if there are more than ``SAMPLE``.
    """

    profile: Profile
    scores: np.ndarray

    def __add__(self, other: "WindowPart") -> "WindowPart":
        scores = np.sort(np.concatenate([self.scores, other.scores]))
        # Every n-th sorted score, which preserves the distribution.
        return WindowPart(
            self.profile.merge(other.profile), scores[:: -(-len(scores) // MAX_SCORES)] if len(scores) else scores
        )


@dataclass(frozen=True)
class WindowResult:
    """Result of a window, as plain values.

    Attributes:
        window, rows, version: Number of the window, its rows, and the version that answered most of them.
        skipped: Why the window was not judged; empty if it was.
        findings: Those with the smallest p-values, at most ``MOST``.
        moved: Columns that drifted.
        faults: Faults of the data.
        estimate, usual: The metric estimated without labels in the window, and as measured on the reference.
        news: Incidents that were opened or resolved.
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
        """Drop of the estimated metric below the measured one; 0 if nothing was estimated."""
        return self.usual["value"] - self.estimate["value"] if self.estimate and self.usual else 0.0

    @staticmethod
    def read(fields: Mapping[str, Any]) -> "WindowResult":
        """Restore a result from its JSON."""
        lists = ("findings", "moved", "faults")
        news = tuple((what, incident) for what, incident in fields["news"])
        return WindowResult(**{**fields, **{name: tuple(fields[name]) for name in lists}, "news": news})


@dataclass
class Judge:
    """Judges the windows of one case; holds the state that carries over from window to window.

    Attributes:
        normal: Returns the reference profile of a version; raises ValueError if the version has none.
        least: Smallest number of rows of a window that is judged.
        rule: When to alarm.
        version: Version that answered the windows in ``past``.
    """

    normal: Callable[[int], ReferenceProfile]
    least: int = 100
    rule: AlarmRule = field(default_factory=AlarmRule)
    incidents: DriftIncidents = field(default_factory=DriftIncidents)
    version: int = 0
    past: deque[tuple[str, Profile]] = field(default_factory=deque)

    def observe(self, window: int, parts: Mapping[int, WindowPart]) -> WindowResult:
        """Judge the next window, given the rows that each version answered."""
        rows = {version: part.profile.rows for version, part in parts.items()}
        version, total = max(rows, key=lambda number: (rows[number], number)), sum(rows.values())
        if skipped := self._reason_to_skip(rows[version], total):
            return WindowResult(window, total, version, skipped)
        if version != self.version:  # windows of another model cannot be compared with this reference
            self.version, self.past = version, deque()
        reference, part = self.normal(version), parts[version]
        monitor = WindowMonitor(reference.baseline, self.rule, self.incidents, self.past)
        verdict = monitor.observe(window, reference.kind(window), part.profile)
        self.incidents = monitor.incidents
        return _to_result(verdict, reference, part, total)

    def _reason_to_skip(self, most: int, total: int) -> str:
        if total < self.least:
            return f"The window has {total} rows, fewer than the minimum of {self.least}."
        return (
            f"Several versions answered, none of them {MIN_VERSION_SHARE:.0%} of the rows."
            if most < MIN_VERSION_SHARE * total
            else ""
        )

    def state(self) -> dict[str, Any]:
        """State that the next window needs, as plain values."""
        past = [[kind, profile.to_bytes().decode()] for kind, profile in self.past]
        return {"version": self.version, "incidents": self.incidents.to_json(), "past": past}

    def load(self, state: Mapping[str, Any]) -> "Judge":
        """Restore the result of :meth:`state`."""
        self.version, self.incidents = state["version"], DriftIncidents.from_json(state["incidents"])
        self.past = deque((kind, Profile.from_bytes(text.encode())) for kind, text in state["past"])
        return self


def _to_result(verdict: DriftVerdict, reference: ReferenceProfile, part: WindowPart, total: int) -> WindowResult:
    estimate: MetricEstimate = reference.estimator.estimate(part.scores)
    return WindowResult(
        window=verdict.window,
        rows=total,
        version=reference.version,
        skipped="" if verdict.judged else "The reference has no days of this kind.",
        findings=tuple(asdict(finding) for finding in verdict.findings[:MAX_STORED]),
        moved=tuple(verdict.moved),
        faults=tuple(asdict(fault) for fault in verdict.faults),
        estimate=asdict(estimate),
        usual=asdict(reference.usual),
        news=tuple((news, _to_plain_values(incident)) for news, incident in verdict.news),
    )


def _to_plain_values(incident: DriftIncident) -> dict[str, Any]:
    return asdict(incident) | {"causes": list(incident.causes)}
