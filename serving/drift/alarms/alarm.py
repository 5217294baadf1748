"""Drift alarms: test each column of a window against the reference, and alarm on significant changes of a relevant size."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from serving.drift.alarms import data_faults, distribution_distances
from serving.drift.alarms.data_faults import Fault
from serving.drift.alarms.drift_incidents import DriftIncident, DriftIncidents, News
from serving.drift.profiles.profile import Profile
from serving.drift.reference.day_variation import ReferenceBaseline


@dataclass(frozen=True)
class AlarmRule:
    """When a window raises a drift alarm.

    Attributes:
        alpha: Family-wise false alarm rate of a window, over all columns and spans.
        correction: Correction for multiple tests: ``holm`` controls the family-wise error rate at alpha,
            ``benjamini-hochberg`` the false discovery rate.
        spans: Numbers of most recent windows that are tested together: 1 detects sudden drift, larger spans slow drift.
        parts: Fraction of alpha that each span gets; they add up to 1.
        location, spread, shape, share: Smallest effect size that matters: in standard deviations of the reference for
            location and spread, as a change of a share for the others.
    """

    alpha: float = 0.01
    correction: Literal["holm", "benjamini-hochberg"] = "holm"
    spans: tuple[int, ...] = (1, 2, 4, 8)
    parts: tuple[float, ...] = (0.85, 0.05, 0.05, 0.05)
    location: float = 0.015
    spread: float = 0.03
    shape: float = 0.003
    share: float = 0.003


@dataclass(frozen=True)
class Finding:
    """Test result of one component of a column over the last windows.

    Attributes:
        column, component, span: Column, component of it, and number of windows tested together.
        p, adjusted: p-value before and after the correction for multiple tests.
        effect, floor: Effect size, and the smallest one that matters.
        moved: Whether the component drifted: the adjusted p-value is at most alpha and the effect at least the floor.
    """

    column: str
    component: str
    span: int
    p: float
    adjusted: float
    effect: float
    floor: float
    moved: bool


def find_drift(
    baseline: ReferenceBaseline, windows: Sequence[tuple[str, Profile]], rule: AlarmRule | None = None
) -> list[Finding]:
    """Test every component of the last windows against the reference; return the results sorted by p-value, smallest first.

    Args:
        baseline: The reference and its variation from day to day.
        windows: Kind of day and profile of each window, oldest first; the last one is judged.
        rule: When to alarm.

    Raises:
        ValueError: if there is no window, or the rule's parts do not match its spans.
    """
    rule = rule or AlarmRule()
    if not windows or len(rule.spans) != len(rule.parts):
        raise ValueError("Give at least one window, and a rule with one fraction of alpha (parts) for each span.")
    spans = [(span, fraction) for span, fraction in zip(rule.spans, rule.parts, strict=True) if span <= len(windows)]
    tests = [
        (component, span, weight, outcome)
        for span, weight in spans
        for component in baseline.components
        if (outcome := baseline.test(component, windows[-span:]))
    ]
    p = np.array([outcome.p for *_, outcome in tests])
    # Every family of columns gets the same fraction of alpha, however many components it has. A numeric column's location
    # gets twice the weight of its other components, since it is usually the first to change.
    families = [(component.family, 2 if component.kind == "location" else 1) for component, *_ in tests]
    sizes: Counter[tuple[str, int]] = Counter()
    for (family, size), (_, span, *_) in zip(families, tests, strict=True):
        sizes[family, span] += size
    weights = np.array(
        [
            weight * size / sizes[family, span]
            for (family, size), (_, span, weight, _) in zip(families, tests, strict=True)
        ]
    )
    if rule.correction == "holm":
        adjusted = distribution_distances.holm(p, weights)
    else:
        adjusted = distribution_distances.benjamini_hochberg(
            np.minimum(p * weights.sum() / weights / max(len(weights), 1), 1.0)
        )
    findings = []
    for (component, span, _, outcome), adjusted_p in zip(tests, adjusted, strict=True):
        floor = getattr(rule, component.kind)
        moved = bool(adjusted_p <= rule.alpha and outcome.effect >= floor)
        findings.append(
            Finding(
                column=component.column,
                component=component.name,
                span=span,
                p=outcome.p,
                adjusted=float(adjusted_p),
                effect=outcome.effect,
                floor=floor,
                moved=moved,
            )
        )
    return sorted(findings, key=lambda finding: (finding.p, finding.column, finding.component, finding.span))


@dataclass(frozen=True)
class DriftVerdict:
    """What the test of a window showed.

    Attributes:
        window: Number of the window.
        judged: Whether drift was tested, which needs days of this kind in the reference; data faults are always
            checked.
        findings: Test results for drift, sorted by p-value.
        faults: Faults of the data.
        news: Incidents that were opened (alert) or resolved in this window.
    """

    window: int
    judged: bool
    findings: list[Finding]
    faults: list[Fault]
    news: list[tuple[News, DriftIncident]]

    @property
    def moved(self) -> list[str]:
        """Columns that drifted, sorted by p-value."""
        return list(dict.fromkeys(finding.column for finding in self.findings if finding.moved))

    @property
    def has_alarm(self) -> bool:
        """Whether a column drifted or has a data fault."""
        return bool(self.moved or self.faults)


@dataclass
class WindowMonitor:
    """Judges consecutive windows against a baseline.

    A window with data faults is not tested for drift, since a fault would look like drift, and it does not enter the
    spans. A window that raises an alarm by itself does not enter them either: spans are for changes that single windows
    do not show, and after a drift that was reverted they would raise alarms for windows that have passed.
    """

    baseline: ReferenceBaseline
    rule: AlarmRule = field(default_factory=AlarmRule)
    incidents: DriftIncidents = field(default_factory=DriftIncidents)
    past: deque[tuple[str, Profile]] = field(default_factory=deque)

    def observe(self, window: int, kind: str, profile: Profile) -> DriftVerdict:
        """Judge the next window; ``kind`` is its kind of day."""
        faults = data_faults.find_faults(self.baseline.pooled, profile)
        judged = self.baseline.knows(kind) and profile.rows > 0
        findings: list[Finding] = []
        if judged and not faults:
            self.past.append((kind, profile))
            while len(self.past) > max(self.rule.spans):
                self.past.popleft()
            findings = find_drift(self.baseline, list(self.past), self.rule)
            if any(finding.moved and finding.span == 1 for finding in findings):
                self.past.pop()
        moved = list(dict.fromkeys(finding.column for finding in findings if finding.moved))
        causes = {"quality": [f"{fault.column}: {fault.kind}" for fault in faults], "drift": moved}
        self.incidents, news = self.incidents.update(window, causes)
        return DriftVerdict(window, judged, findings, faults, news)
