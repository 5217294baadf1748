"""The drift page of a window: the decision, the columns that drifted, the incidents and the metric over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from serving.drift.alarms.data_faults import edge_values
from serving.drift.profiles.bins import NumericColumn
from serving.drift.profiles.profile import Profile
from serving.drift.profiles.windows import format_window
from serving.drift.reference.reference_profile import ReferenceProfile

TEMPLATE = Path(__file__).with_name("drift_page.html")
BARS, COLUMNS = 16, 12
WIDTH, HEIGHT = 520, 120


def render_drift_page(
    record: Mapping[str, Any], report: Mapping[str, Any], profile: ReferenceProfile | None, parts: Path
) -> str:
    """Render one self-contained HTML page; all text that comes from data is escaped.

    Args:
        record: The decision record.
        report: The drift report.
        profile: The version's reference profile; None for a version that has none.
        parts: Folder with the windows' profiles.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    last = report["windows"][-1]
    return environment.from_string(TEMPLATE.read_text()).render(
        record=record,
        last=last,
        incidents=report["incidents"],
        tfdv=report["tfdv"].get(str(last["window"]), []),
        name=lambda window: format_window(window, bool(profile and profile.watched.time)),
        shapes=column_bars(profile, parts / f"{last['window']}-{last['version']}.json", last["moved"]),
        line=metric_points(report["windows"], report["realised"]),
        width=WIDTH,
        height=HEIGHT,
    )


def column_bars(profile: ReferenceProfile | None, path: Path, moved: Sequence[str]) -> list[dict[str, Any]]:
    """Shares of the reference and of the window in a few bars, for each profiled column; drifted columns come first."""
    if profile is None or not path.is_file():
        return []
    current, reference = Profile.from_bytes(path.read_bytes()), profile.baseline.pooled
    order = sorted(
        reference.layout,
        key=lambda column: (moved.index(column.name) if column.name in moved else len(moved), column.name),
    )
    return [
        {"name": column.name, "moved": column.name in moved, "bars": _build_bars(column, reference, current)}
        for column in order[:COLUMNS]
    ]


def _build_bars(column: Any, reference: Profile, current: Profile) -> list[dict[str, Any]]:
    counts = [profile[column.name] for profile in (reference, current)]
    shares = [count.bins / max(count.rows, 1) for count in counts]
    if isinstance(column, NumericColumn):
        groups = np.minimum((np.cumsum(shares[0]) * BARS).astype(int), BARS - 1)
        edges = ["below", *(f"from {value:.4g}" for value in edge_values(column))]
        labels = [edges[int(np.flatnonzero(groups == group)[0])] for group in np.unique(groups)]
    else:
        order = np.argsort(-(shares[0] + shares[1]), kind="stable")
        groups = np.empty(len(order), int)
        groups[order] = np.minimum(np.arange(len(order)), BARS - 1)
        names = [*column.values, "unknown"]
        labels = [names[order[n]] if n < BARS - 1 or len(order) <= BARS else "others" for n in np.unique(groups)]
    sums = [np.bincount(np.unique(groups, return_inverse=True)[1], share) for share in shares]
    top = max(float(max(total.max() for total in sums)), 1e-9)
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


def metric_points(windows: Sequence[Mapping[str, Any]], realised: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Coordinates of the metric over windows: estimated with its error, realised, and the reference value."""
    estimated = [verdict for verdict in windows if verdict["estimate"]]
    measured = {int(window): value for window, value in realised.items()}
    values = [verdict[which]["value"] for verdict in estimated for which in ("estimate", "usual")] + [
        outcome["value"] for outcome in measured.values()
    ]
    values = [value for value in values if value == value]
    if not values:
        return {}
    low, high = min(values) - 0.05, max(values) + 0.05
    first, last = estimated[0]["window"], max(estimated[-1]["window"], estimated[0]["window"] + 1)

    def to_point(window: int, value: float) -> tuple[float, float]:
        return (window - first) / (last - first) * (WIDTH - 60) + 50, (high - value) / (high - low) * (HEIGHT - 20) + 10

    points = [
        {
            "window": verdict["window"],
            "estimate": to_point(verdict["window"], verdict["estimate"]["value"]),
            "text": verdict["estimate"],
            "error": verdict["estimate"]["error"] / (high - low) * (HEIGHT - 20),
            "usual": to_point(verdict["window"], verdict["usual"]["value"]),
            "realised": to_point(verdict["window"], measured[verdict["window"]]["value"])
            if verdict["window"] in measured
            else None,
            "known": measured.get(verdict["window"]),
        }
        for verdict in estimated
        if verdict["estimate"]["value"] == verdict["estimate"]["value"]  # NaN is not equal to itself
    ]
    return {"points": points, "low": low, "high": high}
