"""Measure how the stages scale with the rows for each Beam runner, and extrapolate to ten billion rows a day.

``python -m benchmarks.scale`` runs the whole pipeline on generated purchases of each size, once with each runner. The
seconds of a stage are fitted as a constant start and a time per row. CPU seconds are extrapolated, since other work
on the machine hardly affects them; wall seconds are reported with them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runs import ROOT, print_table, showcase_command, write_report

ROWS = (100_000, 1_000_000, 5_000_000)
DAY = 10_000_000_000  # rows per day
SECONDS = 86_400


def measure_run(rows: int, runner: str, folder: Path) -> dict[str, Any]:
    """Run the pipeline without a cache; return each stage's wall and CPU seconds, and the peak resident memory.

    Raises:
        SystemExit: if the run pushed no model.
    """
    options = ("--runner", runner, "--home", folder, "--json", "--tracking", "none", "--set", f"rows={rows}")
    process = subprocess.run(showcase_command("run", "fraud", *options), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if process.returncode:
        sys.exit(f"error: the run of {rows} rows with runner {runner} failed: {process.stdout[-400:]}")
    stages = json.loads(json.loads(process.stdout)["facts"]["stages"])
    return {
        "rows": rows,
        "runner": runner,
        "seconds": {name: stage["seconds"] for name, stage in stages.items()},
        "cpu": {name: stage["cpu_seconds"] for name, stage in stages.items()},
        "peak_mb": max(stage["peak_mb"] for stage in stages.values()),
    }


def fit_stages(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Fit start and rows per second of each stage and runner by least squares over the sizes; 0 for a constant stage.

    Both are fitted to wall seconds, and to CPU seconds (``cpu_``).
    """
    fits = []
    for runner in dict.fromkeys(run["runner"] for run in runs):
        runner_runs = [run for run in runs if run["runner"] == runner]
        rows = [run["rows"] for run in runner_runs]
        for stage in runner_runs[0]["seconds"]:
            wall, cpu = (_fit(rows, [run[kind][stage] for run in runner_runs]) for kind in ("seconds", "cpu"))
            fits.append(
                {
                    "runner": runner,
                    "stage": stage,
                    "start_s": wall[0],
                    "rows_per_s": wall[1],
                    "cpu_start_s": cpu[0],
                    "rows_per_cpu_s": cpu[1],
                }
            )
    return fits


def _fit(rows: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Return start and rows per second; the latter is 0 if the largest size takes hardly longer than the start."""
    slope, start = np.polyfit(np.array(rows, float), seconds, 1) if len(rows) > 1 else (0.0, seconds[0])
    grows = slope > 0 and slope * max(rows) > 0.1 * max(seconds)
    return float(start), float(1 / slope) if grows else 0.0


def extrapolate(fits: Sequence[Mapping[str, Any]], rows: int = DAY) -> list[dict[str, Any]]:
    """Compute the cores that each growing stage needs to process a day's rows within a day, if the slope holds.

    It is a lower bound: the slope of one machine does not include network shuffles and stragglers.
    """
    return [
        {
            "runner": fit["runner"],
            "stage": fit["stage"],
            "core_hours": rows / fit["rows_per_cpu_s"] / 3600,
            "cores": int(np.ceil(round(rows / fit["rows_per_cpu_s"] / SECONDS, 6))),
        }
        for fit in fits
        if fit["rows_per_cpu_s"]
    ]


def main() -> None:
    """Measure every size with every runner, print the fits and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", type=int, default=list(ROWS), help="Sizes of the data, in rows.")
    parser.add_argument("--runners", nargs="+", default=["direct", "multiprocess"], help="Beam runners.")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/scale.json", help="JSON to write.")
    options = parser.parse_args()
    runs: list[dict[str, Any]] = []
    fits: list[dict[str, Any]] = []
    needed: list[dict[str, Any]] = []
    for rows in options.rows:
        for runner in options.runners:
            with tempfile.TemporaryDirectory() as folder:
                runs.append(measure_run(rows, runner, Path(folder)))
            total = sum(runs[-1]["seconds"].values())
            print(
                f"{rows:,} rows with runner {runner}: {total:,.0f} s in stages, {runs[-1]['peak_mb']:,.0f} MB",
                flush=True,
            )
            fits = fit_stages(runs)
            needed = extrapolate(fits)
            write_report(options.out, runs=runs, slopes=fits, paper=needed)  # the next run may take an hour
    print_table("Each stage: seconds at the start, and rows per second after it (0: constant)", fits)
    if needed:
        print_table(f"Extrapolated to {DAY:,} rows: core hours, and cores to finish within a day", needed)


if __name__ == "__main__":
    main()
