"""Whether a window is worth an alarm: more than chance, and more than nothing."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from serving.drift.alarms import data_faults, distribution_distances
from serving.drift.alarms.data_faults import Fault
from serving.drift.alarms.drift_incidents import Incident, Incidents, News
from serving.drift.profiles.profile import Profile
from serving.drift.reference.day_variation import Baseline


@dataclass(frozen=True)
class Rule:
    """When to alarm.

    Attributes:
        alpha: Chance of a false alarm a window, over all columns and spans together.
        correction: ``holm`` holds that chance; ``benjamini-hochberg`` the share of false findings.
        spans: How many of the last windows are judged together: one for what comes at once, more for slow ramps.
        parts: Each span's part of alpha, adding up to 1.
        location, spread, shape, share: The least effect that matters: standard deviations, and change of a share.
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
    """A component of a column over the last windows.

    Attributes:
        column, component, span: What was looked at, over how many windows.
        p, adjusted: Before and after the correction for many tests.
        effect, floor: How much it moved, and the least that matters.
        moved: Whether both say so.
    """

    column: str
    component: str
    span: int
    p: float
    adjusted: float
    effect: float
    floor: float
    moved: bool


def judge(baseline: Baseline, windows: Sequence[tuple[str, Profile]], rule: Rule | None = None) -> list[Finding]:
    """Every component of the last windows, the most surprising first.

    Args:
        baseline: What is usual.
        windows: Kind of day and profile, oldest first; the last is the one judged.
        rule: When to alarm.

    Raises:
        ValueError: for no window, or a rule whose parts do not match its spans.
    """
    rule = rule or Rule()
    if not windows or len(rule.spans) != len(rule.parts):
        raise ValueError("Judging takes at least one window, and a part of alpha for each span.")
    spans = [(span, part) for span, part in zip(rule.spans, rule.parts, strict=True) if span <= len(windows)]
    tests = [
        (part, span, weight, outcome)
        for span, weight in spans
        for part in baseline.components
        if (outcome := baseline.test(part, windows[-span:]))
    ]
    p = np.array([outcome.p for *_, outcome in tests])
    # Every family of columns has the same part of alpha, however many components it is seen by. Half of a number's part
    # is its location's: that is what moves first.
    parts = [(part.family, 2 if part.kind == "location" else 1) for part, *_ in tests]
    seen: Counter[tuple[str, int]] = Counter()
    for (family, size), (_, span, *_) in zip(parts, tests, strict=True):
        seen[family, span] += size
    weights = np.array([w * size / seen[f, span] for (f, size), (_, span, w, _) in zip(parts, tests, strict=True)])
    if rule.correction == "holm":
        adjusted = distribution_distances.holm(p, weights)
    else:
        adjusted = distribution_distances.benjamini_hochberg(
            np.minimum(p * weights.sum() / weights / max(len(weights), 1), 1.0)
        )
    found = []
    for (part, span, _, outcome), value in zip(tests, adjusted, strict=True):
        floor = getattr(rule, part.kind)
        moved = bool(value <= rule.alpha and outcome.effect >= floor)
        found.append(Finding(part.column, part.name, span, outcome.p, float(value), outcome.effect, floor, moved))
    return sorted(found, key=lambda one: (one.p, one.column, one.component, one.span))


@dataclass(frozen=True)
class Verdict:
    """What a window showed.

    Attributes:
        window: Its number.
        judged: Whether days of its kind were in the reference; faults are looked for in any case.
        findings: Of drift, the most surprising first.
        faults: Of the data.
        news: What people should hear: alerts and resolutions.
    """

    window: int
    judged: bool
    findings: list[Finding]
    faults: list[Fault]
    news: list[tuple[News, Incident]]

    @property
    def moved(self) -> list[str]:
        """Columns that drifted, the most surprising first."""
        return list(dict.fromkeys(one.column for one in self.findings if one.moved))

    @property
    def alarm(self) -> bool:
        """Whether something drifted or is broken."""
        return bool(self.moved or self.faults)


@dataclass
class Monitor:
    """Looks at one window after the other against a baseline.

    Where data are broken, nothing is said about drift: what follows from a fault would look like one. Such windows stay
    out of the spans as well. So do windows that alarm by themselves: spans are for what single windows do not show, and
    after a drift that was taken back they would go on alarming over windows that are long past.
    """

    baseline: Baseline
    rule: Rule = field(default_factory=Rule)
    incidents: Incidents = field(default_factory=Incidents)
    past: deque[tuple[str, Profile]] = field(default_factory=deque)

    def observe(self, window: int, kind: str, profile: Profile) -> Verdict:
        """Judges the next window; ``kind`` is its kind of day."""
        faults = data_faults.check(self.baseline.pooled, profile)
        judged = self.baseline.knows(kind) and profile.rows > 0
        findings: list[Finding] = []
        if judged and not faults:
            self.past.append((kind, profile))
            while len(self.past) > max(self.rule.spans):
                self.past.popleft()
            findings = judge(self.baseline, list(self.past), self.rule)
            if any(one.moved and one.span == 1 for one in findings):
                self.past.pop()
        moved = list(dict.fromkeys(one.column for one in findings if one.moved))
        causes = {"quality": [f"{one.column}: {one.kind}" for one in faults], "drift": moved}
        self.incidents, news = self.incidents.update(window, causes)
        return Verdict(window, judged, findings, faults, news)
