"""Others' drift detection on the same table, where it is installed: ``evidently`` and ``nannyml`` are no dependencies."""

import time
from importlib.util import find_spec
from typing import Any

ROWS = 100_000


def measured(rows: int = ROWS) -> list[dict[str, Any]]:
    """Rows a CPU second at 15 columns of each, ours first, or that it is not installed."""
    return [_ours(rows), _evidently(rows), _nannyml(rows)]


def _ours(rows: int) -> dict[str, Any]:
    from benchmarks.drift import table_of
    from serving.drift import layout
    from serving.drift.alarm import judge
    from serving.drift.calibration import Baseline
    from serving.drift.profile import Profile

    past, now = table_of(rows, 1), table_of(rows, 2)
    counted = layout.fit(past)
    baseline = Baseline.of_rows(Profile.of(counted, past))
    began = time.process_time()
    judge(baseline, [("any", Profile.of(counted, now))])
    return _row("ours", rows, time.process_time() - began)


def _evidently(rows: int) -> dict[str, Any]:
    if not find_spec("evidently"):
        return {"who": "evidently", "rows/s": "not installed"}
    from evidently import Report
    from evidently.presets import DataDriftPreset

    from benchmarks.drift import table_of

    past, now = (table_of(rows, seed).to_pandas() for seed in (1, 2))
    began = time.process_time()
    Report([DataDriftPreset()]).run(now, past).dict()
    return _row("evidently", rows, time.process_time() - began)


def _nannyml(rows: int) -> dict[str, Any]:
    if not find_spec("nannyml"):
        return {"who": "nannyml", "rows/s": "not installed"}
    import nannyml

    from benchmarks.drift import table_of

    past, now = (table_of(rows, seed).to_pandas() for seed in (1, 2))
    began = time.process_time()
    found = nannyml.UnivariateDriftCalculator(column_names=list(past.columns), chunk_size=rows // 10).fit(past)
    found.calculate(now)
    return _row("nannyml", rows, time.process_time() - began)


def _row(who: str, rows: int, seconds: float) -> dict[str, Any]:
    return {"who": who, "rows/s": rows / seconds}
