"""Reference profile of a model, stored as files in its SavedModel.

It holds the monitored columns, the reference baseline, the fits that explain columns, and the estimator of the metric.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from serving.drift.profiles import bins as layouts
from serving.drift.profiles.bins import Layout
from serving.drift.profiles.profile import Profile
from serving.drift.profiles.watched_columns import WatchedColumns
from serving.drift.reference.day_variation import ANY_KIND, MIN_DAYS, ReferenceBaseline, kind_of_day
from serving.drift.reference.explained_columns import ExplainedColumn, RandomEffects
from serving.drift.reference.metric_estimate import Metric, MetricEstimate, MetricEstimator, measure_metric
from serving.gateway.version_files import EXTRA

FACTS_FILE = "normal.json"
BASELINE_FILE = "baseline.json"
# Overdispersion of rows with a time but with too few days to estimate the variation between days: a customer's purchases are
# clustered, so that shares vary more than those of independent rows.
FEW_DAYS_OVERDISPERSION = 3.0
EPOCH = date(1970, 1, 1)


def kind_of_window(day: int) -> str:
    """Kind of a day, given as days since 1970."""
    return kind_of_day(EPOCH + timedelta(day))


@dataclass(frozen=True)
class ReferenceProfile:
    """Reference profile of a model.

    Attributes:
        watched: Monitored columns of a row.
        baseline: The reference, and the variation between undrifted windows.
        expected: Fits of columns that others explain.
        estimator: Estimates the metric without labels.
        usual: The metric on the labelled rows of the reference.
        days: Number of days of the reference; 0 if rows have no time.
        version: Version of the model, if it was pushed.
    """

    watched: WatchedColumns
    baseline: ReferenceBaseline
    expected: tuple[ExplainedColumn, ...]
    estimator: MetricEstimator
    usual: MetricEstimate
    days: int
    version: int = 0

    @property
    def layout(self) -> Layout:
        """Bins of the columns."""
        return self.baseline.pooled.layout

    def columns(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The profiled columns of monitored rows, with residual columns added."""
        for model in self.expected:
            frame = model.with_residuals(frame)
        return frame.select(column.name for column in self.layout)

    def profile(self, frame: pl.DataFrame) -> Profile:
        return Profile.of(self.layout, self.columns(frame))

    def kind(self, window: int) -> str:
        """A window's kind of day; a single kind if the reference has no days."""
        return kind_of_window(window) if self.watched.time and ANY_KIND not in self.baseline.groups else ANY_KIND

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        parts = {name: asdict(getattr(self, name)) for name in ("watched", "estimator", "usual")}
        facts = parts | {"expected": [asdict(model) for model in self.expected], "days": self.days}
        (folder / FACTS_FILE).write_text(json.dumps(facts, indent=1, sort_keys=True))
        (folder / BASELINE_FILE).write_bytes(self.baseline.to_bytes())

    @staticmethod
    def load(folder: Path, version: int = 0) -> "ReferenceProfile":
        """Restore the result of :meth:`save`.

        Raises:
            ValueError: if the files are missing or damaged; a model that was pushed before they existed has none.
        """
        try:
            facts = json.loads((folder / FACTS_FILE).read_text())
            return ReferenceProfile(
                watched=WatchedColumns(**{name: _to_tuple(value) for name, value in facts["watched"].items()}),
                baseline=ReferenceBaseline.from_bytes((folder / BASELINE_FILE).read_bytes()),
                expected=tuple(_load_expected(fields) for fields in facts["expected"]),
                estimator=MetricEstimator(**{name: _to_tuple(value) for name, value in facts["estimator"].items()}),
                usual=MetricEstimate(**facts["usual"]),
                days=facts["days"],
                version=version,
            )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{folder} has no readable reference profile of the model ({error}); push a new version."
            ) from None


@lru_cache(8)
def load_version(versions: Path, version: int) -> ReferenceProfile:
    """Load the reference profile of a pushed version.

    Raises:
        ValueError: if the version has none.
    """
    return ReferenceProfile.load(versions / str(version) / EXTRA / "normal", version)


def fit(
    watched: WatchedColumns,
    explained: Mapping[str, Sequence[str]],
    rows: pl.DataFrame,
    days: np.ndarray | None,
    estimator: MetricEstimator,
    metric_estimate: MetricEstimate,
) -> ReferenceProfile:
    """Fit a reference profile to rows on which the model was not trained.

    With enough days, each day is one observation. Otherwise rows count as independent, with overdispersion if they have
    a time.

    Args:
        watched: Monitored columns of a row.
        explained: For each explained column, the columns that explain it.
        rows: Monitored columns, as :meth:`Watched.frame` returns them.
        days: Each row's day since 1970, ``[n]``; None if rows have no time.
        estimator: Estimator of the metric.
        metric_estimate: The metric on labelled rows.

    Raises:
        ValueError: if there is no row.
    """
    if not len(rows):
        raise ValueError("The split is empty; a reference profile needs at least one row.")
    expected = tuple(ExplainedColumn.fit(rows, name, by) for name, by in explained.items())
    for model in expected:
        rows = model.with_residuals(rows, fitted=True)
    rows = rows.select(name for name in rows.columns if name not in watched.explaining)
    layout = layouts.fit_layout(rows)
    baseline, day_count = _fit_baseline(layout, rows, days)
    return ReferenceProfile(
        watched=watched,
        baseline=baseline,
        expected=expected,
        estimator=estimator,
        usual=metric_estimate,
        days=day_count,
    )


def _fit_baseline(layout: Layout, rows: pl.DataFrame, days: np.ndarray | None) -> tuple[ReferenceBaseline, int]:
    if days is None:
        return ReferenceBaseline.of_rows(Profile.of(layout, rows)), 0
    numbers = np.unique(days)
    parts = [(kind_of_window(int(day)), Profile.of(layout, rows.filter(pl.Series(days == day)))) for day in numbers]
    if len(parts) - len({name for name, _ in parts}) >= MIN_DAYS:
        return ReferenceBaseline.of_days(parts), len(parts)
    return ReferenceBaseline.of_rows(Profile.of(layout, rows), FEW_DAYS_OVERDISPERSION), len(parts)


def fit_estimator(metric: Metric, scores: np.ndarray, right: np.ndarray) -> tuple[MetricEstimator, MetricEstimate]:
    """Fit the estimator of a metric to labelled rows ``[n]``, and measure the metric on them."""
    return MetricEstimator.fit(metric, scores, right), measure_metric(metric, scores, right)


def _to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _load_expected(fields: Mapping[str, Any]) -> ExplainedColumn:
    levels = {name: tuple(values) for name, values in fields["levels"].items()}
    # Versions that were pushed before spreads and effects existed have none.
    spreads = tuple(fields.get("spreads", ()))
    effects = {
        name: RandomEffects(effect["drawn"], {value: tuple(sums) for value, sums in effect["known"].items()})
        for name, effect in fields.get("effects", {}).items()
    }
    return ExplainedColumn(
        name=fields["name"],
        numbers=tuple(fields["numbers"]),
        levels=levels,
        weights=tuple(fields["weights"]),
        spreads=spreads,
        effects=effects,
    )
