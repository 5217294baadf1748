"""Speed of other drift detection libraries on the same table; ``evidently`` and ``nannyml`` are not dependencies."""

import json
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

ROWS = 100_000
ROOT = Path(__file__).resolve().parents[1]


def measure_peers(python: str = sys.executable, rows: int = ROWS) -> list[dict[str, Any]]:
    """Measure rows per CPU second on 15 columns for each library, ours first; note those that are not installed.

    Args:
        python: Interpreter with the other libraries, polars and pyarrow.
        rows: Number of rows of the window; the reference has as many.
    """
    env = os.environ | {name: "1" for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    call = [python, "-m", "benchmarks.drift_peers", str(rows)]
    process = subprocess.run(call, cwd=ROOT, env=env, capture_output=True, text=True)
    if process.returncode:
        return [
            {"who": "others", "rows/s": f"failed: {process.stderr.strip().splitlines()[-1]}", "ours is faster by": ""}
        ]
    peers = json.loads(process.stdout.splitlines()[-1])
    ours = _measure_ours(rows)
    return [ours, *(peer | {"ours is faster by": _compute_ratio(ours, peer)} for peer in peers)]


def _compute_ratio(ours: dict[str, Any], peer: dict[str, Any]) -> float | str:
    return ours["rows/s"] / peer["rows/s"] if isinstance(peer["rows/s"], float) else ""


def _measure_ours(rows: int) -> dict[str, Any]:
    from benchmarks.drift_table import make_random_table
    from serving.drift.alarms.alarm import find_drift
    from serving.drift.profiles import bins
    from serving.drift.profiles.profile import Profile
    from serving.drift.reference.day_variation import ReferenceBaseline

    past, now = make_random_table(rows, 1), make_random_table(rows, 2)
    layout = bins.fit_layout(past)
    baseline = ReferenceBaseline.of_rows(Profile.of(layout, past))
    started = time.process_time()
    find_drift(baseline, [("any", Profile.of(layout, now))])
    return _make_row("ours", rows, time.process_time() - started)


def _run_evidently(past: Any, now: Any) -> None:
    from evidently import Report
    from evidently.presets import DataDriftPreset

    Report([DataDriftPreset()]).run(now, past).dict()


def _run_nannyml(past: Any, now: Any) -> None:
    import nannyml

    calculator = nannyml.UnivariateDriftCalculator(column_names=list(past.columns), chunk_size=len(past) // 10).fit(
        past
    )
    calculator.calculate(now)


PEERS = {"evidently": _run_evidently, "nannyml": _run_nannyml}


def _measure_peer(name: str, rows: int) -> dict[str, Any]:
    """Measure one library, or return why it does not import: it may not work with the installed pandas."""
    from benchmarks.drift_table import make_random_table

    try:
        import_module(name)  # import time is not counted
        past, now = (make_random_table(rows, seed).to_pandas() for seed in (1, 2))
        started = time.process_time()
        PEERS[name](past, now)
    except ImportError as error:
        return {"who": name, "rows/s": f"does not import: {error.name or error}", "ours is faster by": ""}
    return _make_row(name, rows, time.process_time() - started)


def _make_row(who: str, rows: int, seconds: float) -> dict[str, Any]:
    return {"who": who, "rows/s": rows / seconds, "ours is faster by": 1.0}


if __name__ == "__main__":
    print(json.dumps([_measure_peer(name, int(sys.argv[1])) for name in PEERS]))
