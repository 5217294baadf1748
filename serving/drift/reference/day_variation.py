"""What undrifted days differ by: the yardstick for a new one.

Rows of a day are not independent (a customer comes again, a fraud is a burst), so tests that take them for independent
alarm on clean days. Here a day is one observation. Each column is seen through a few components
(:mod:`serving.drift.profiles.components`); of each, the deviations of reference days from others of their kind give the
variance to judge by.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property

import numpy as np
from scipy import stats

from serving.drift.profiles import components
from serving.drift.profiles.components import Component
from serving.drift.profiles.profile import Profile, canonical

LEAST_DAYS = 10
LAGS = 7  # days over which moods are followed
ANY = "any"


def kind_of_day(day: date, holidays: frozenset[date] = frozenset()) -> str:
    """Days that are alike: working days, Saturdays, Sundays, holidays."""
    if day in holidays:
        return "holiday"
    return {5: "saturday", 6: "sunday"}.get(day.weekday(), "workday")


@dataclass(frozen=True)
class Noise:
    """How a component varies without drift.

    Attributes:
        trace: Sum of variances a row.
        above, below: Degrees of freedom.
        lags: Correlation of its column's days that are 1, 2, ... days apart: who travels does so for days.
    """

    trace: float
    above: float
    below: float
    lags: tuple[float, ...] = ()

    def lasting(self, days: int) -> float:
        """How much more the mean of so many days in a row varies than if days were independent, at least 1."""
        return max(1.0, 1 + 2 * sum((1 - lag / days) * one for lag, one in enumerate(self.lags[: days - 1], 1)))


@dataclass(frozen=True)
class Outcome:
    """A component of a window against the reference.

    Attributes:
        statistic: Squared distance over what is usual; around 1 without drift.
        p: How likely that or more is without drift.
        effect: Location and spread in standard deviations of the reference; else the largest change of a share.
    """

    statistic: float
    p: float
    effect: float


@dataclass(frozen=True)
class Baseline:
    """The reference: a profile a kind of day, and the noise a component.

    Attributes:
        groups: Merged profiles of the reference's days of a kind.
        noise: By (column, component).
        most_rows: Of a reference's day: a larger window is not trusted to be less noisy, as days have moods of their own.
    """

    groups: Mapping[str, Profile]
    noise: Mapping[tuple[str, str], Noise]
    most_rows: int

    @staticmethod
    def of_days(days: Sequence[tuple[str, Profile]]) -> "Baseline":
        """From reference days that the model has not been fitted on, each with its kind.

        Raises:
            ValueError: for fewer than ``LEAST_DAYS`` days beyond one a kind.
        """
        kinds = sorted({kind for kind, _ in days})
        below = len(days) - len(kinds)
        if below < LEAST_DAYS:
            raise ValueError(
                f"{len(days)} reference days of {len(kinds)} kinds are too few to know what is usual; give at least "
                f"{LEAST_DAYS + len(kinds)}, or judge rows as independent with Baseline.of_rows."
            )
        groups = {kind: _merged(profile for one, profile in days if one == kind) for kind in kinds}
        found = Baseline(groups, {}, max(profile.rows for _, profile in days))
        residuals = {
            (part.column, part.name): np.stack(
                [
                    (_seen(part, profile) - _seen(part, groups[kind])) * np.sqrt(max(profile[part.column].rows, 1))
                    for kind, profile in days
                ]
            )
            for part in found.components
        }
        order = [kind for kind, _ in days]
        lags = {one: _lags([r for (column, _), r in residuals.items() if column == one], order) for one, _ in residuals}
        noise = {key: replace(_noise(one, below), lags=lags[key[0]]) for key, one in residuals.items()}
        return Baseline(groups, noise, found.most_rows)

    @staticmethod
    def of_rows(reference: Profile, overdispersion: float = 1.0) -> "Baseline":
        """From one sample whose rows are independent, as pictures are; ``overdispersion`` widens what is usual."""
        found = Baseline({ANY: reference}, {}, reference.rows)
        noise = {}
        for part in found.components:
            r = reference[part.column].bins / max(reference[part.column].rows, 1)
            covariance = part.weights.T @ (np.diag(r) - np.outer(r, r)) @ part.weights
            trace, square = float(np.trace(covariance)), float((covariance**2).sum())
            noise[part.column, part.name] = Noise(overdispersion * trace, trace**2 / square if square else 1.0, np.inf)
        return Baseline({ANY: reference}, noise, found.most_rows)

    @cached_property
    def pooled(self) -> Profile:
        """The whole reference."""
        return _merged(self.groups.values())

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """What every column is seen by; those that do not vary in the reference are left out."""
        found = [one for column in self.pooled.layout for one in components.of(column, self.pooled[column.name].bins)]
        return tuple(one for one in found if one.weights.size)

    def knows(self, kind: str) -> bool:
        """Whether days of the kind were in the reference; without days, every window is of one kind."""
        return kind in self.groups or ANY in self.groups

    def test(self, part: Component, windows: Sequence[tuple[str, Profile]]) -> Outcome | None:
        """Windows taken together against what days of their kinds hold; None where there is nothing to compare."""
        rows: dict[str, int] = {}
        sums = np.zeros(part.weights.shape[0])
        for kind, profile in windows:
            kind = kind if kind in self.groups else ANY
            rows[kind] = rows.get(kind, 0) + profile[part.column].rows
            sums += profile[part.column].bins
        # A version that was pushed before a component was thought of has no noise for it.
        total, noise = sum(rows.values()), self.noise.get((part.column, part.name))
        if noise is None or not total or noise.trace <= 0:
            return None
        if part.kind == "shape" and len(windows) > 1 and np.isfinite(noise.below):
            return None  # a shape has directions in which moods last for weeks, and few days do not tell which
        kinds = [(count / total, *self._usual(part, kind, noise)) for kind, count in rows.items()]
        moved = sums / total - sum(share * usual for share, usual, _ in kinds)
        difference = moved @ part.weights
        # The windows' own noise, and that of the reference's means, which all windows share.
        own = 1 / min(total, self.most_rows * len(windows))
        shared = sum(share**2 * variance for share, _, variance in kinds)
        trace = noise.trace
        if np.isinf(
            noise.below
        ):  # independent rows: both sides together know best what they vary by, as in a test of rates
            counts = self.groups[ANY][part.column].bins
            trace *= _trace(part.weights, counts + sums) / _trace(part.weights, counts)
        lasting = own * noise.lasting(len(windows)) + shared * noise.lasting(LAGS + 1)
        statistic = float(difference @ difference) / (trace * lasting)
        return Outcome(statistic, _tail(statistic, noise), _effect(part, difference, moved))

    def _usual(self, part: Component, kind: str, noise: Noise) -> tuple[np.ndarray, float]:
        """Shares ``[bins]`` on days of a kind, and the variance of their components in units of a row's.

        Holidays are few, so that their own mean is known badly. As far as a kind is no further from other days than noise
        brings it, those say what is usual of it (James and Stein's estimate).
        """
        mine, every = self.groups[kind][part.column], self.pooled[part.column]
        own, others = max(mine.rows, 1), every.rows - mine.rows
        if not others:
            return mine.bins / own, 1 / own
        gap = (mine.bins / own - (every.bins - mine.bins) / others) @ part.weights
        by_noise = noise.trace * (1 / own + 1 / others)
        kept = max(0.0, 1 - by_noise / max(float(gap @ gap), by_noise))
        return kept * mine.bins / own + (1 - kept) * every.bins / every.rows, kept / own + (1 - kept) / every.rows

    def to_bytes(self) -> bytes:
        """Canonical, for the model's ``assets.extra``."""
        held = {
            "groups": {kind: json.loads(profile.to_bytes()) for kind, profile in self.groups.items()},
            "noise": [
                [*key, one.trace, one.above, str(one.below), one.lags] for key, one in sorted(self.noise.items())
            ],
            "most_rows": self.most_rows,
        }
        return canonical(held)

    @staticmethod
    def from_bytes(data: bytes) -> "Baseline":
        """What :meth:`to_bytes` wrote."""
        held = json.loads(data)
        groups = {kind: Profile.from_bytes(json.dumps(one).encode()) for kind, one in held["groups"].items()}
        noise = {
            (column, name): Noise(trace, above, float(below), *map(tuple, lags))
            for column, name, trace, above, below, *lags in held["noise"]
        }
        return Baseline(groups, noise, held["most_rows"])


def _merged(profiles: Iterable[Profile]) -> Profile:
    first, *rest = profiles
    for one in rest:
        first = first.merge(one)
    return first


def _seen(part: Component, profile: Profile) -> np.ndarray:
    counts = profile[part.column]
    return counts.bins @ part.weights / max(counts.rows, 1)


def _trace(weights: np.ndarray, counts: np.ndarray) -> float:
    """Sum of the variances a row of ``shares @ weights`` for independent rows with these counts."""
    shares = counts / counts.sum()
    return float((shares @ weights**2 - (shares @ weights) ** 2).sum())


def _noise(residuals: np.ndarray, below: int) -> Noise:
    """From residuals ``[days, q]``: the trace of their covariance, and how many directions it really has.

    Trace squared over the trace of the square, after Satterthwaite, both freed of the bias of few days (Bai, Saranadasa).
    """
    covariance = residuals.T @ residuals / below
    trace, raw = float(np.trace(covariance)), float((covariance**2).sum())
    square = below**2 / ((below - 1) * (below + 2)) * max(raw - trace**2 / below, 0.0)
    above = (trace**2 - 2 * square / below) / square if square else len(covariance)
    return Noise(trace, float(np.clip(above, 1.0, len(covariance))), float(below))


def _lags(residuals: Sequence[np.ndarray], kinds: Sequence[str]) -> tuple[float, ...]:
    """Correlations ``[LAGS]`` of days, by all of a column's residuals ``[days, q]``; of few days one says little.

    Days of a kind lie around their own mean, which makes independent ones look opposed: that is put back.
    """
    days, found = Counter(kinds), []
    for lag in range(1, min(LAGS, len(kinds) - 1) + 1):
        opposed = np.mean([(one == two) / days[one] for one, two in zip(kinds, kinds[lag:], strict=False)])
        pairs = [(r[lag:] * r[:-lag]).sum(axis=1).mean() / (r**2).sum(axis=1).mean() for r in residuals if r.any()]
        found.append(float(np.mean(pairs) * (1 - len(days) / len(kinds)) + opposed) if pairs else 0.0)
    return tuple(found)


def _tail(statistic: float, noise: Noise) -> float:
    if np.isinf(noise.below):
        return float(stats.chi2.sf(statistic * noise.above, noise.above))
    return float(stats.f.sf(statistic, noise.above, noise.above * noise.below))


def _effect(part: Component, difference: np.ndarray, moved: np.ndarray) -> float:
    if part.kind in ("location", "spread"):
        return float(abs(difference[0]))
    return float(np.abs(moved @ (part.weights > 0)).max())
