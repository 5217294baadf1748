"""Others' drift detection on the same table, where it is installed: ``evidently`` and ``nannyml`` are no dependencies."""

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


def measured(python: str = sys.executable, rows: int = ROWS) -> list[dict[str, Any]]:
    """Rows a CPU second at 15 columns of each, ours first, or that it is not installed.

    Args:
        python: The interpreter that has the others installed, with polars and pyarrow.
        rows: Of the window; the reference has as many.
    """
    env = os.environ | {name: "1" for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    call = [python, "-m", "benchmarks.drift_peers", str(rows)]
    done = subprocess.run(call, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        return [{"who": "others", "rows/s": f"failed: {done.stderr.strip().splitlines()[-1]}", "ours is faster by": ""}]
    found = json.loads(done.stdout.splitlines()[-1])
    ours = _ours(rows)
    return [ours, *(one | {"ours is faster by": _ratio(ours, one)} for one in found)]


def _ratio(ours: dict[str, Any], other: dict[str, Any]) -> float | str:
    return ours["rows/s"] / other["rows/s"] if isinstance(other["rows/s"], float) else ""


def _ours(rows: int) -> dict[str, Any]:
    from benchmarks.drift_table import random_table
    from serving.drift.alarms.alarm import judge
    from serving.drift.profiles import bins
    from serving.drift.profiles.profile import Profile
    from serving.drift.reference.day_variation import Baseline

    past, now = random_table(rows, 1), random_table(rows, 2)
    counted = bins.fit(past)
    baseline = Baseline.of_rows(Profile.of(counted, past))
    began = time.process_time()
    judge(baseline, [("any", Profile.of(counted, now))])
    return _row("ours", rows, time.process_time() - began)


def _evidently(past: Any, now: Any) -> None:
    from evidently import Report
    from evidently.presets import DataDriftPreset

    Report([DataDriftPreset()]).run(now, past).dict()


def _nannyml(past: Any, now: Any) -> None:
    import nannyml

    found = nannyml.UnivariateDriftCalculator(column_names=list(past.columns), chunk_size=len(past) // 10).fit(past)
    found.calculate(now)


PEERS = {"evidently": _evidently, "nannyml": _nannyml}


def _peer(name: str, rows: int) -> dict[str, Any]:
    """The measurement, or why there is none: these packages do not always agree with the pandas beside them."""
    from benchmarks.drift_table import random_table

    try:
        import_module(name)  # what importing takes is not counted
        past, now = (random_table(rows, seed).to_pandas() for seed in (1, 2))
        began = time.process_time()
        PEERS[name](past, now)
    except ImportError as error:
        return {"who": name, "rows/s": f"does not import: {error.name or error}", "ours is faster by": ""}
    return _row(name, rows, time.process_time() - began)


def _row(who: str, rows: int, seconds: float) -> dict[str, Any]:
    return {"who": who, "rows/s": rows / seconds, "ours is faster by": 1.0}


if __name__ == "__main__":
    print(json.dumps([_peer(name, int(sys.argv[1])) for name in PEERS]))
