"""The page on a window: what moved, by how much, since when, how sure, what it did to the scores, what was decided."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from serving.drift.alarms.data_faults import least_values
from serving.drift.profiles.bins import Number
from serving.drift.profiles.profile import Profile
from serving.drift.reference.reference_profile import EPOCH, Normal

TEMPLATE = Path(__file__).with_name("drift_page.html")
BARS, COLUMNS = 16, 12
WIDTH, HEIGHT = 520, 120


def drawn(record: Mapping[str, Any], found: Mapping[str, Any], normal: Normal | None, parts: Path) -> str:
    """One self-contained page; whatever came from data is escaped.

    Args:
        record: The decision.
        found: The report.
        normal: What the version calls normal; None where it does not say so.
        parts: Folder with the windows' profiles.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    last = found["windows"][-1]
    return environment.from_string(TEMPLATE.read_text()).render(
        record=record,
        last=last,
        incidents=found["incidents"],
        tfdv=found["tfdv"].get(str(last["window"]), []),
        name=lambda window: named(window, bool(normal and normal.watched.time)),
        shapes=shapes(normal, parts / f"{last['window']}-{last['version']}.json", last["moved"]),
        line=line(found["windows"], found["realised"]),
        width=WIDTH,
        height=HEIGHT,
    )


def named(window: int, days: bool) -> str:
    """A window for people: its date, or its number."""
    return (EPOCH + timedelta(window)).isoformat() if days else f"window {window}"


def shapes(normal: Normal | None, path: Path, moved: Sequence[str]) -> list[dict[str, Any]]:
    """Of each counted column the shares of the reference and of the window, over a few bars; what moved comes first."""
    if normal is None or not path.is_file():
        return []
    now, usual = Profile.from_bytes(path.read_bytes()), normal.baseline.pooled
    order = sorted(usual.layout, key=lambda one: (moved.index(one.name) if one.name in moved else len(moved), one.name))
    return [
        {"name": column.name, "moved": column.name in moved, "bars": _bars(column, usual, now)}
        for column in order[:COLUMNS]
    ]


def _bars(column: Any, usual: Profile, now: Profile) -> list[dict[str, Any]]:
    both = [one[column.name].bins / max(one[column.name].rows, 1) for one in (usual, now)]
    if isinstance(column, Number):
        groups = np.minimum((np.cumsum(both[0]) * BARS).astype(int), BARS - 1)
        edges = ["below", *(f"from {value:.4g}" for value in least_values(column))]
        labels = [edges[int(np.flatnonzero(groups == group)[0])] for group in np.unique(groups)]
    else:
        order = np.argsort(-(both[0] + both[1]), kind="stable")
        groups = np.empty(len(order), int)
        groups[order] = np.minimum(np.arange(len(order)), BARS - 1)
        names = [*column.values, "unknown"]
        labels = [names[order[n]] if n < BARS - 1 or len(order) <= BARS else "others" for n in np.unique(groups)]
    sums = [np.bincount(np.unique(groups, return_inverse=True)[1], one) for one in both]
    top = max(float(max(one.max() for one in sums)), 1e-9)
    return [
        {
            "label": label[:40],
            "usual": float(u),
            "now": float(n),
            "usual_height": float(u / top),
            "now_height": float(n / top),
        }
        for label, u, n in zip(labels, *sums, strict=True)
    ]


def line(windows: Sequence[Mapping[str, Any]], realised: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Points of the metric over windows: estimated with its error, realised, and usual, as places in a drawing."""
    told = [one for one in windows if one["estimate"]]
    known = {int(window): value for window, value in realised.items()}
    values = [one[which]["value"] for one in told for which in ("estimate", "usual")] + [
        one["value"] for one in known.values()
    ]
    values = [value for value in values if value == value]
    if not values:
        return {}
    low, high = min(values) - 0.05, max(values) + 0.05
    first, last = told[0]["window"], max(told[-1]["window"], told[0]["window"] + 1)

    def at(window: int, value: float) -> tuple[float, float]:
        return (window - first) / (last - first) * (WIDTH - 60) + 50, (high - value) / (high - low) * (HEIGHT - 20) + 10

    points = [
        {
            "window": one["window"],
            "estimate": at(one["window"], one["estimate"]["value"]),
            "text": one["estimate"],
            "error": one["estimate"]["error"] / (high - low) * (HEIGHT - 20),
            "usual": at(one["window"], one["usual"]["value"]),
            "realised": at(one["window"], known[one["window"]]["value"]) if one["window"] in known else None,
            "known": known.get(one["window"]),
        }
        for one in told
        if one["estimate"]["value"] == one["estimate"]["value"]
    ]
    return {"points": points, "low": low, "high": high}
