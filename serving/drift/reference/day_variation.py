"""Variation between undrifted days: the yardstick for a new day.

Rows of a day are not independent (customers return, frauds come in bursts), so tests that assume independent rows raise
alarms on undrifted days. Here a day is one observation. Each column is reduced to a few components
(:mod:`serving.drift.profiles.components`). The variance of a component is that of the reference days around other days
of their kind.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property

import numpy as np

from serving.drift.profiles import components
from serving.drift.profiles.components import Component
from serving.drift.profiles.profile import Profile, to_canonical_json
from serving.drift.reference.day_noise import LAGS, Noise, estimate_autocorrelations, estimate_noise

MIN_DAYS = 10
ANY_KIND = "any"


def kind_of_day(day: date, holidays: frozenset[date] = frozenset()) -> str:
    """Kind of a day: working day, Saturday, Sunday or holiday; days of one kind are compared."""
    if day in holidays:
        return "holiday"
    return {5: "saturday", 6: "sunday"}.get(day.weekday(), "workday")


@dataclass(frozen=True)
class ComponentResult:
    """Test of one component of the last windows against the reference.

    Attributes:
        statistic: Squared distance over its expected value; around 1 without drift.
        p: p-value.
        effect: Effect size: standard deviations of the reference for location and spread, else the largest change of a
            share.
    """

    statistic: float
    p: float
    effect: float


@dataclass(frozen=True)
class ReferenceBaseline:
    """The reference: one profile per kind of day, and the noise of each component.

    Attributes:
        groups: Merged profile of the reference days of each kind.
        noise: By (column, component).
        most_rows: Largest number of rows of a reference day. A larger window is not assumed to be less noisy, since
            days vary as a whole.
    """

    groups: Mapping[str, Profile]
    noise: Mapping[tuple[str, str], Noise]
    most_rows: int

    @staticmethod
    def of_days(days: Sequence[tuple[str, Profile]]) -> "ReferenceBaseline":
        """Fit to reference days on which the model was not trained, each with its kind.

        Raises:
            ValueError: if there are fewer than ``MIN_DAYS`` days in addition to one per kind.
        """
        kinds = sorted({kind for kind, _ in days})
        denominator_df = len(days) - len(kinds)
        if denominator_df < MIN_DAYS:
            raise ValueError(
                f"{len(days)} reference days of {len(kinds)} kinds are too few to estimate the variation between days; give "
                f"at least {MIN_DAYS + len(kinds)}, or treat rows as independent with ReferenceBaseline.of_rows."
            )
        groups = {kind: _merge(profile for other, profile in days if other == kind) for kind in kinds}
        without_noise = ReferenceBaseline(groups, {}, max(profile.rows for _, profile in days))
        residuals = {
            (component.column, component.name): np.stack(
                [
                    (_component_values(component, profile) - _component_values(component, groups[kind]))
                    * np.sqrt(max(profile[component.column].rows, 1))
                    for kind, profile in days
                ]
            )
            for component in without_noise.components
        }
        order = [kind for kind, _ in days]
        lags = {
            name: estimate_autocorrelations(
                [values for (column, _), values in residuals.items() if column == name], order
            )
            for name, _ in residuals
        }
        noise = {
            key: replace(estimate_noise(values, denominator_df), lags=lags[key[0]]) for key, values in residuals.items()
        }
        return ReferenceBaseline(groups, noise, without_noise.most_rows)

    @staticmethod
    def of_rows(reference: Profile, overdispersion: float = 1.0) -> "ReferenceBaseline":
        """Fit to one sample of independent rows, such as images; ``overdispersion`` multiplies their variance."""
        without_noise = ReferenceBaseline({ANY_KIND: reference}, {}, reference.rows)
        noise = {}
        for component in without_noise.components:
            shares = reference[component.column].bins / max(reference[component.column].rows, 1)
            covariance = component.weights.T @ (np.diag(shares) - np.outer(shares, shares)) @ component.weights
            trace, square = float(np.trace(covariance)), float((covariance**2).sum())
            noise[component.column, component.name] = Noise(
                overdispersion * trace, trace**2 / square if square else 1.0, np.inf
            )
        return ReferenceBaseline({ANY_KIND: reference}, noise, without_noise.most_rows)

    @cached_property
    def pooled(self) -> Profile:
        """Profile of the whole reference."""
        return _merge(self.groups.values())

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """Components of all columns; those that do not vary in the reference are left out."""
        candidates = [
            component
            for column in self.pooled.layout
            for component in components.build_components(column, self.pooled[column.name].bins)
        ]
        return tuple(component for component in candidates if component.weights.size)

    def knows(self, kind: str) -> bool:
        """Whether the reference has days of the kind; a reference of rows has a single kind for every window."""
        return kind in self.groups or ANY_KIND in self.groups

    def test(self, component: Component, windows: Sequence[tuple[str, Profile]]) -> ComponentResult | None:
        """Test the windows, pooled, against reference days of the same kinds; None if there is nothing to compare."""
        rows: dict[str, int] = {}
        sums = np.zeros(component.weights.shape[0])
        for kind, profile in windows:
            kind = kind if kind in self.groups else ANY_KIND
            rows[kind] = rows.get(kind, 0) + profile[component.column].rows
            sums += profile[component.column].bins
        # A version that was pushed before a component was introduced has no noise for it.
        total, noise = sum(rows.values()), self.noise.get((component.column, component.name))
        if noise is None or not total or noise.trace <= 0:
            return None
        if component.kind == "shape" and len(windows) > 1 and np.isfinite(noise.denominator_df):
            return None  # some directions of a shape are autocorrelated over weeks; too few days show which
        kinds = [(count / total, *self._expected_shares(component, kind, noise)) for kind, count in rows.items()]
        change = sums / total - sum(share * expected for share, expected, _ in kinds)
        difference = change @ component.weights
        # Variance of the windows, and of the reference's means, which all windows share.
        own_variance = 1 / min(total, self.most_rows * len(windows))
        shared_variance = sum(share**2 * variance for share, _, variance in kinds)
        trace = noise.trace
        if np.isinf(noise.denominator_df):
            # Rows are independent: estimate the variance from both samples pooled, as in a test of two rates.
            counts = self.groups[ANY_KIND][component.column].bins
            trace *= _trace_per_row(component.weights, counts + sums) / _trace_per_row(component.weights, counts)
        variance = own_variance * noise.variance_inflation(len(windows)) + shared_variance * noise.variance_inflation(
            LAGS + 1
        )
        statistic = float(difference @ difference) / (trace * variance)
        return ComponentResult(statistic, noise.p_value(statistic), _effect_size(component, difference, change))

    def _expected_shares(self, component: Component, kind: str, noise: Noise) -> tuple[np.ndarray, float]:
        """Expected shares ``[bins]`` on days of a kind, and the variance of their components in units of a row's.

        Holidays are few, so that their own mean is imprecise. It is shrunk towards the mean of all days, the more the
        closer the distance of the kind from other days is to what noise alone explains (James–Stein shrinkage).
        """
        kind_counts, all_counts = self.groups[kind][component.column], self.pooled[component.column]
        kind_rows, other_rows = max(kind_counts.rows, 1), all_counts.rows - kind_counts.rows
        if not other_rows:
            return kind_counts.bins / kind_rows, 1 / kind_rows
        gap = (kind_counts.bins / kind_rows - (all_counts.bins - kind_counts.bins) / other_rows) @ component.weights
        expected_gap = noise.trace * (1 / kind_rows + 1 / other_rows)
        weight = max(0.0, 1 - expected_gap / max(float(gap @ gap), expected_gap))
        shares = weight * kind_counts.bins / kind_rows + (1 - weight) * all_counts.bins / all_counts.rows
        return shares, weight / kind_rows + (1 - weight) / all_counts.rows

    def to_bytes(self) -> bytes:
        """Serialize canonically, for the model's ``assets.extra``."""
        fields = {
            "groups": {kind: json.loads(profile.to_bytes()) for kind, profile in self.groups.items()},
            "noise": [
                [*key, noise.trace, noise.numerator_df, str(noise.denominator_df), noise.lags]
                for key, noise in sorted(self.noise.items())
            ],
            "most_rows": self.most_rows,
        }
        return to_canonical_json(fields)

    @staticmethod
    def from_bytes(data: bytes) -> "ReferenceBaseline":
        fields = json.loads(data)
        groups = {kind: Profile.from_bytes(json.dumps(profile).encode()) for kind, profile in fields["groups"].items()}
        noise = {
            (column, name): Noise(trace, numerator_df, float(denominator_df), *map(tuple, lags))
            for column, name, trace, numerator_df, denominator_df, *lags in fields["noise"]
        }
        return ReferenceBaseline(groups, noise, fields["most_rows"])


def _merge(profiles: Iterable[Profile]) -> Profile:
    first, *rest = profiles
    for profile in rest:
        first = first.merge(profile)
    return first


def _component_values(component: Component, profile: Profile) -> np.ndarray:
    counts = profile[component.column]
    return counts.bins @ component.weights / max(counts.rows, 1)


def _trace_per_row(weights: np.ndarray, counts: np.ndarray) -> float:
    """Trace of the covariance of ``shares @ weights`` per row, for independent rows with these counts."""
    shares = counts / counts.sum()
    return float((shares @ weights**2 - (shares @ weights) ** 2).sum())


def _effect_size(component: Component, difference: np.ndarray, change: np.ndarray) -> float:
    if component.kind in ("location", "spread"):
        return float(abs(difference[0]))
    return float(np.abs(change @ (component.weights > 0)).max())
