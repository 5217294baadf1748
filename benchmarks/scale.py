"""How the stages grow with the rows, by who carries the Beam work; and on paper what so many rows a day would take.

``python -m benchmarks.scale``: the whole pipeline on generated purchases of each size, once with each runner. A stage's seconds
are fitted as a start that does not depend on the rows and a time a row, so that the slope can be carried on. What is carried on
is processor seconds, which other work on the machine hardly changes; wall seconds are told beside them.
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

from benchmarks.runs import ROOT, show, write

ROWS = (100_000, 1_000_000, 5_000_000)
DAY = 10_000_000_000  # rows
SECONDS = 86_400


def measured(rows: int, runner: str, folder: Path) -> dict[str, Any]:
    """Runs the pipeline from nothing; returns each stage's seconds, wall and processor's, and the largest resident memory.

    Raises:
        SystemExit: if the run did not end in a push.
    """
    command = [
        sys.executable,
        "-m",
        "cli.main",
        "run",
        "fraud",
        "--runner",
        runner,
        "--home",
        str(folder),
        "--json",
    ]
    command += ["--tracking", "none", "--set", f"rows={rows}"]
    process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if process.returncode:
        sys.exit(f"error: the run of {rows} rows by {runner} failed: {process.stdout[-400:]}")
    stages = json.loads(json.loads(process.stdout)["facts"]["stages"])
    return {
        "rows": rows,
        "runner": runner,
        "seconds": {name: stage["seconds"] for name, stage in stages.items()},
        "cpu": {name: stage["cpu_seconds"] for name, stage in stages.items()},
        "peak_mb": max(stage["peak_mb"] for stage in stages.values()),
    }


def slopes(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Start and rows a second of each stage by runner, by least squares over the sizes; a stage that does not grow has none.

    Of wall seconds, and of processor seconds (``cpu_``).
    """
    fits = []
    for runner in dict.fromkeys(run["runner"] for run in runs):
        runner_runs = [run for run in runs if run["runner"] == runner]
        rows = [run["rows"] for run in runner_runs]
        for stage in runner_runs[0]["seconds"]:
            wall, cpu = (_fitted(rows, [run[kind][stage] for run in runner_runs]) for kind in ("seconds", "cpu"))
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


def _fitted(rows: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Start, and rows a second after it: 0 if the largest size takes hardly longer than the start alone."""
    slope, start = np.polyfit(np.array(rows, float), seconds, 1) if len(rows) > 1 else (0.0, seconds[0])
    grows = slope > 0 and slope * max(rows) > 0.1 * max(seconds)
    return float(start), float(1 / slope) if grows else 0.0


def paper(fits: Sequence[Mapping[str, Any]], rows: int = DAY) -> list[dict[str, Any]]:
    """Cores that each growing stage would need to be done with a day's rows within a day, if the slope held.

    It is a lower bound: shuffles over a network and stragglers cost more than a slope of one machine knows.
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
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", type=int, default=list(ROWS), help="Sizes.")
    parser.add_argument("--runners", nargs="+", default=["direct", "multiprocess"], help="Who carries the Beam work.")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/scale.json", help="JSON to write.")
    options = parser.parse_args()
    runs: list[dict[str, Any]] = []
    fits: list[dict[str, Any]] = []
    needed: list[dict[str, Any]] = []
    for rows in options.rows:
        for runner in options.runners:
            with tempfile.TemporaryDirectory() as folder:
                runs.append(measured(rows, runner, Path(folder)))
            total = sum(runs[-1]["seconds"].values())
            print(f"{rows:,} rows by {runner}: {total:,.0f} s in all stages, {runs[-1]['peak_mb']:,.0f} MB", flush=True)
            fits = slopes(runs)
            needed = paper(fits)
            write(options.out, runs=runs, slopes=fits, paper=needed)  # the next run may take an hour
    show("Each stage: what it starts with, and rows a second after that (0: it does not grow)", fits)
    if needed:
        show(f"On paper: {DAY:,} rows a day, core hours, and cores for a day", needed)


if __name__ == "__main__":
    main()
