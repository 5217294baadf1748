"""What a model calls normal, as files beside it: columns, reference, what explains them, and how to estimate its metric."""

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
from serving.drift.profiles.watched_columns import Watched
from serving.drift.reference.day_variation import ANY, LEAST_DAYS, Baseline, kind_of_day
from serving.drift.reference.explained_columns import Effects, Expected
from serving.drift.reference.metric_estimate import Estimate, Estimator, Metric, realised
from serving.gateway.version_files import EXTRA

FACTS, BASELINE = "normal.json", "baseline.json"
# Of rows with a time but too few days to know how days differ: purchases of a customer come together, so that shares vary
# more than those of independent rows.
FEW_DAYS = 3.0
EPOCH = date(1970, 1, 1)


def kind(day: int) -> str:
    """The kind of a day, counted from 1970."""
    return kind_of_day(EPOCH + timedelta(day))


@dataclass(frozen=True)
class Normal:
    """See the module.

    Attributes:
        watched: Which columns a row has.
        baseline: The reference, and what undrifted windows differ by.
        expected: Columns that others explain.
        estimator: Estimates the metric without labels.
        usual: The metric on the labelled rows of the reference.
        days: Days of the reference; 0 where rows have no time.
        version: Of the model, where it has been pushed.
    """

    watched: Watched
    baseline: Baseline
    expected: tuple[Expected, ...]
    estimator: Estimator
    usual: Estimate
    days: int
    version: int = 0

    @property
    def layout(self) -> Layout:
        """How columns are counted."""
        return self.baseline.pooled.layout

    def columns(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The counted columns of watched rows."""
        for one in self.expected:
            frame = one.added(frame)
        return frame.select(column.name for column in self.layout)

    def profile(self, frame: pl.DataFrame) -> Profile:
        """The profile of watched rows."""
        return Profile.of(self.layout, self.columns(frame))

    def kind(self, window: int) -> str:
        """A window's kind of day; where the reference knows no days, all are of one kind."""
        return kind(window) if self.watched.time and ANY not in self.baseline.groups else ANY

    def save(self, folder: Path) -> None:
        """Writes both files."""
        folder.mkdir(parents=True, exist_ok=True)
        held = {name: asdict(getattr(self, name)) for name in ("watched", "estimator", "usual")}
        told = held | {"expected": [asdict(one) for one in self.expected], "days": self.days}
        (folder / FACTS).write_text(json.dumps(told, indent=1, sort_keys=True))
        (folder / BASELINE).write_bytes(self.baseline.to_bytes())

    @staticmethod
    def load(folder: Path, version: int = 0) -> "Normal":
        """What :meth:`save` wrote.

        Raises:
            ValueError: if the files are not there or damaged: a model pushed before there were such files has none.
        """
        try:
            told = json.loads((folder / FACTS).read_text())
            return Normal(
                Watched(**{name: _tuple(value) for name, value in told["watched"].items()}),
                Baseline.from_bytes((folder / BASELINE).read_bytes()),
                tuple(_expected(one) for one in told["expected"]),
                Estimator(**{name: _tuple(value) for name, value in told["estimator"].items()}),
                Estimate(**told["usual"]),
                told["days"],
                version,
            )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{folder} does not say what is normal for the model ({error}); push a new version."
            ) from None


@lru_cache(8)
def of_version(versions: Path, version: int) -> Normal:
    """What a pushed version calls normal.

    Raises:
        ValueError: if it does not say so.
    """
    return Normal.load(versions / str(version) / EXTRA / "normal", version)


def fit(
    watched: Watched,
    explained: Mapping[str, Sequence[str]],
    rows: pl.DataFrame,
    days: np.ndarray | None,
    estimator: Estimator,
    usual: Estimate,
) -> Normal:
    """From rows that the model has not been fitted on.

    With enough days each day is one observation. Otherwise rows count as independent, widened where they have a time.

    Args:
        watched: Which columns a row has.
        explained: By column, those that say what it would be.
        rows: As :class:`Watched` gives them.
        days: Each row's day since 1970, ``[n]``; None where rows have no time.
        estimator: Of the metric.
        usual: The metric on labelled rows.

    Raises:
        ValueError: if there is no row.
    """
    if not len(rows):
        raise ValueError("There is no row to say what is normal by: the split is empty.")
    expected = tuple(Expected.fit(rows, name, by) for name, by in explained.items())
    for one in expected:
        rows = one.added(rows, fitted=True)
    rows = rows.select(name for name in rows.columns if name not in watched.explaining)
    counted = layouts.fit(rows)
    baseline, number = _baseline(counted, rows, days)
    return Normal(watched, baseline, expected, estimator, usual, number)


def _baseline(counted: Layout, rows: pl.DataFrame, days: np.ndarray | None) -> tuple[Baseline, int]:
    if days is None:
        return Baseline.of_rows(Profile.of(counted, rows)), 0
    numbers = np.unique(days)
    parts = [(kind(int(day)), Profile.of(counted, rows.filter(pl.Series(days == day)))) for day in numbers]
    if len(parts) - len({one for one, _ in parts}) >= LEAST_DAYS:
        return Baseline.of_days(parts), len(parts)
    return Baseline.of_rows(Profile.of(counted, rows), FEW_DAYS), len(parts)


def measured(metric: Metric, scores: np.ndarray, right: np.ndarray) -> tuple[Estimator, Estimate]:
    """The estimator of a metric, and the metric itself, from labelled rows ``[n]``."""
    return Estimator.fit(metric, scores, right), realised(metric, scores, right)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _expected(held: Mapping[str, Any]) -> Expected:
    levels = {name: tuple(known) for name, known in held["levels"].items()}
    # Versions pushed before have no spreads or effects.
    spreads, effects = tuple(held.get("spreads", ())), held.get("effects", {})
    told = {
        name: Effects(one["drawn"], {value: tuple(both) for value, both in one["known"].items()})
        for name, one in effects.items()
    }
    return Expected(held["name"], tuple(held["numbers"]), levels, tuple(held["weights"]), spreads, told)
