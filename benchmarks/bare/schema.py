"""Statistics of the splits, and their validation against the curated schema."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from benchmarks.bare.columns import IDS, LABEL, PASTS, SCALARS
from models.fraud.features import AMOUNTS, CATEGORIES, COUNTS, RISKS
from models.fraud.history.point_in_time import LONGEST, SECOND

# The curated schema: bounds, domains, the minimum presence, and the minimum share of values inside the domain.
BOUNDS = {
    "event_time": (0, math.inf),
    "amount": (0, 1e6),
    LABEL: (0, 1),
    "distance_km": (0, 25_000),
    "seconds_since_last": (0, LONGEST / SECOND),
    **dict.fromkeys((*COUNTS, *AMOUNTS[1:4]), (0, math.inf)),
    **dict.fromkeys(RISKS, (0, 1)),
}
DOMAINS = {
    "category": [
        "grocery",
        "restaurant",
        "fuel",
        "clothing",
        "pharmacy",
        "transport",
        "home",
        "entertainment",
        "electronics",
        "digital",
        "travel",
        "sport",
        "none",
    ],
    "channel": ["chip", "contactless", "swipe", "online", "none"],
    "device": ["terminal", "phone", "browser", "tablet", "watch", "none"],
}
PRESENT, IN_DOMAIN = 0.95, 0.98
QUANTILES = np.linspace(0, 1, 11)
TOP = 20


def describe(frame: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Compute the statistics of every feature of a split."""
    statistics = {}
    for name in (*SCALARS, *PASTS):
        column = frame[name].explode() if name in PASTS else frame[name]
        facts = {"count": len(column) - column.null_count(), "missing": column.null_count() / max(len(column), 1)}
        is_text = name in (*IDS, *CATEGORIES, "past_merchant")
        statistics[name] = facts | (
            _describe_text(column) if is_text else _describe_numbers(column.drop_nulls().to_numpy())
        )
    return statistics


def _describe_text(column: pl.Series) -> dict[str, Any]:
    counts = column.drop_nulls().value_counts(sort=True)
    return {"unique": counts.height, "top": dict(counts.head(TOP).iter_rows())}


def _describe_numbers(values: np.ndarray) -> dict[str, Any]:
    return {
        "mean": values.mean(dtype=float),
        "std": values.std(dtype=float),
        "zeros": int((values == 0).sum()),
        "quantiles": np.quantile(values, QUANTILES).tolist(),
        "histogram": np.histogram(values, bins=10)[0].tolist(),
    }


def check_schema(statistics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Validate statistics against bounds, domains and minimum presence.

    Raises:
        ValueError: naming every feature that violates one.
    """
    violations = []
    for part, features in statistics.items():
        for name, facts in features.items():
            if facts["missing"] > (1 - PRESENT if name in DOMAINS else 0):
                violations.append(f"{name} in {part} is missing in {facts['missing']:.1%}")
            low, high = BOUNDS.get(name, (-math.inf, math.inf))
            if "quantiles" in facts and not low <= facts["quantiles"][0] <= facts["quantiles"][-1] <= high:
                violations.append(f"{name} in {part} is outside {low} to {high}")
            inside = sum(facts["top"].get(value, 0) for value in DOMAINS.get(name, ()) if "top" in facts)
            if name in DOMAINS and inside < IN_DOMAIN * facts["count"]:
                violations.append(f"{name} in {part} has unknown values")
    if violations:
        raise ValueError(f"the data violates the schema: {'; '.join(violations)}.")
