"""Measure the drift monitor on generated drift: false alarms, power, delay, speed and memory, and compare other rules.

``python -m benchmarks.drift --work FOLDER`` stores the result of each part, so that an interrupted benchmark resumes.
``--peers PYTHON`` names an interpreter with Evidently and NannyML. Their requirements conflict with LightGBM 4.7, so
they need an environment of their own:
``uv venv P && uv pip install --python P/bin/python evidently nannyml polars pyarrow 'pandas<3'``.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.runs import ROOT, print_table, write_report

if TYPE_CHECKING:
    pass

BATCH = 1 << 16
METRICS = ("pr_auc", "roc_auc")
PICTURES = {"clean": "<= 1%", "subtle noise": ">= 0.6", "brightness": ">= 0.95", "prior shift": ">= 0.5"}


def measure_world(seed: int, judged: int) -> dict[str, Any]:
    """Run all trials on one generated world."""
    from benchmarks import drift_trials as trials
    from benchmarks.drift_days import GeneratedDays

    days, started = GeneratedDays(seed, judged), time.monotonic()
    windows = days.profile_clean_days()
    results = {
        "clean": trials.find_clean_alarms(days, windows),
        "amount 1.05": trials.measure_delay(days, windows, "amount", 1.05, 3, 1),
        "amount 1.03": trials.measure_delay(days, windows, "amount", 1.03, 10, 6),
        "amount-ramp 1.10": trials.measure_delay(days, windows, "amount-ramp", 1.10, 50, 14),
        "online 0.05": trials.measure_delay(days, windows, "online", 0.05, 20, 4),
        "faults": trials.detect_faults(days, 10),
        "fraud rate 1.5": trials.compute_fraud_rate_p_values(days, 1.5, 3),
        "concept 0.5": trials.compute_concept_p_values(days, 0.5, 10),
        "estimates": trials.estimate_metrics(days),
    }
    return json.loads(json.dumps(results, default=float)) | {"seconds": time.monotonic() - started}


def load_or_measure(work: Path | None, name: str, measure: Callable[[], Any]) -> Any:
    """Return the stored result of a measurement in ``work``; measure and store it if there is none."""
    path = work / f"{name}.json" if work else None
    if path and path.exists():
        return json.loads(path.read_text())
    result = measure()
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))
    return result


def measure_worlds(seeds: Sequence[int], judged: int, jobs: int, work: Path | None) -> list[dict[str, Any]]:
    """Return the trials of every seed."""
    # Spawn, since Polars' threads do not survive a fork.
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool, ThreadPoolExecutor(jobs) as threads:
        names = [f"world-{seed}-{judged}" for seed in seeds]
        measures = [lambda seed=seed: pool.submit(measure_world, seed, judged).result() for seed in seeds]
        return list(threads.map(load_or_measure, [work] * len(seeds), names, measures))


def profile_stream(rows: int) -> dict[str, float]:
    """Profile a stream of rows; return rows per CPU second and the process's peak memory in MiB."""
    import resource

    from benchmarks.drift_table import make_random_table
    from serving.drift.profiles import bins
    from serving.drift.profiles.profile import Profile

    parts = [make_random_table(BATCH, seed) for seed in range(4)]
    layout = bins.fit_layout(parts[0])
    started = time.process_time()
    whole = Profile.stream(layout, (parts[at % 4] for at in range(rows // BATCH)))
    cpu_seconds = time.process_time() - started
    largest_column = max(len(json.dumps(column)) for column in json.loads(whole.to_bytes())["columns"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "rows": whole.rows,
        "rows_per_s": whole.rows / cpu_seconds,
        "peak_mib": peak,
        "bytes_a_column": largest_column,
    }


def run_in_process(call: str) -> Any:
    """Call a function of this module in a separate process with one thread, so that its memory can be measured."""
    code = f"import json; from benchmarks import drift; print(json.dumps(drift.{call}))"
    threads = {name: "1" for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    process = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | threads, cwd=ROOT, capture_output=True, text=True
    )
    if process.returncode:
        sys.exit(f"error: {call} failed: {process.stderr.strip().splitlines()[-1]}")
    return json.loads(process.stdout.splitlines()[-1])


def build_figures(
    worlds: Sequence[dict[str, Any]], pictures: dict[str, float], speed: Sequence[dict[str, float]]
) -> list[dict[str, Any]]:
    """Return a row per figure: target, measured value, number of trials, and whether the target is reached."""
    from benchmarks.drift_trials import LATE, SURE

    def all_of(name: str, part: str | None = None) -> np.ndarray:
        return np.concatenate([world[name][part] if part else world[name] for world in worlds])

    def rate(hits: np.ndarray) -> tuple[float, int]:
        return float(np.mean(hits)), len(hits)

    def middle(waits: np.ndarray) -> tuple[float, int]:
        return float(np.median(waits)), len(waits)

    def errors(metric: str) -> list[float]:
        return [
            abs(e["estimate"] - e["realised"]) for world in worlds for e in world["estimates"] if e["metric"] == metric
        ]

    fraud_rate = (all_of("fraud rate 1.5", part) for part in ("drifted", "clean"))
    p_values_by_day = all_of("concept 0.5", "drifted")
    concept = np.array(
        [next((day for day, p in enumerate(p_values, 1) if p < SURE), LATE) for p_values in p_values_by_day]
    )
    first_ripe, ripe_clean = (rate(p <= 0.01) for p in fraud_rate)
    clean = rate(all_of("clean", "ours"))
    table = [
        ("false alarms, clean windows", "<= 1.8%", *clean),
        ("false alarms, clean windows", ">= 0.4%", *clean),
        ("alerts, clean windows", "", *rate(all_of("clean", "alerts"))),
        ("amount x1.05, alarm on day 1", ">= 95%", *rate(all_of("amount 1.05") == 1)),
        ("amount x1.03, median windows", "<= 3", *middle(all_of("amount 1.03"))),
        ("amount ramp to x1.10, median windows", "", *middle(all_of("amount-ramp 1.10"))),
        ("5% move online, alarm on day 1", "", *rate(all_of("online 0.05") == 1)),
        ("fraud rate x1.5, first ripe day", ">= 85%", *first_ripe),
        ("fraud rate, false alarms", "<= 1%", *ripe_clean),
        *(
            (f"fault '{kind}' in its first window", ">= 100%", *rate(all_of("faults", kind)))
            for kind in worlds[0]["faults"]
        ),
        ("concept drift, most windows", "<= 9", float(concept.max()), len(concept)),
        ("concept, false alarms", "<= 1%", *rate(all_of("concept 0.5", "clean").min(axis=1) < SURE)),
        *((f"pictures, {name}", target, pictures[name], pictures["trials"]) for name, target in PICTURES.items()),
        *((f"estimated {name}, largest error", "<= 0.02", max(errors(name)), len(errors(name))) for name in METRICS),
        *((f"estimated {name}, mean error", "", float(np.mean(errors(name))), len(errors(name))) for name in METRICS),
        *((f"profile rows/s, {stream['rows']:,} rows", ">= 1,000,000", stream["rows_per_s"], 1) for stream in speed),
        *((f"peak MiB, {stream['rows']:,} rows", "<= 300", stream["peak_mib"], 1) for stream in speed),
        ("bytes a column", "<= 65,536", float(speed[0]["bytes_a_column"]), 1),
    ]
    return [
        {
            "figure": name,
            "target": target,
            "measured": value,
            "trials": int(count),
            "reached": _check_target(target, value),
        }
        for name, target, value, count in table
    ]


def _check_target(target: str, value: float) -> str:
    if not target:
        return ""
    sign, bound = target.split(" ", 1)
    number = float(bound.rstrip("%").replace(",", "")) / (100 if bound.endswith("%") else 1)
    return "yes" if (value >= number if sign == ">=" else value <= number) else "NO"


def compare_rules(worlds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare our rule with simple ones on the same windows: false alarms on clean ones, power at amount x1.05."""
    naive = np.concatenate([world["clean"]["rows as independent"] for world in worlds])
    ours = np.concatenate([world["clean"]["ours"] for world in worlds])
    power = np.concatenate([np.array(world["amount 1.05"]) == 1 for world in worlds])
    return [
        {"rule": "ours", "false alarms": float(ours.mean()), "power x1.05": float(power.mean())},
        {"rule": "same tests, rows as independent", "false alarms": float(naive.mean()), "power x1.05": "not measured"},
        {"rule": "always alarm", "false alarms": 1.0, "power x1.05": 1.0},
        {"rule": "never alarm", "false alarms": 0.0, "power x1.05": 0.0},
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--days", type=int, default=168, help="Judged days per seed.")
    parser.add_argument(
        "--jobs", type=int, default=1, help="Worlds computed in parallel; each takes about 2 GB of memory."
    )
    parser.add_argument("--trials", type=int, default=300, help="Random splits of the pictures.")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 100_000_000], help="Rows to stream.")
    parser.add_argument("--work", type=Path, help="Folder that stores the results of each part.")
    parser.add_argument(
        "--peers", default=sys.executable, help="Python interpreter with evidently and nannyml; by default this one."
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/drift.json")
    options = parser.parse_args()
    from benchmarks import drift_peers, drift_pictures

    speed = [
        load_or_measure(options.work, f"speed-{rows}", partial(run_in_process, f"profile_stream({rows})"))
        for rows in options.rows
    ]
    peers = load_or_measure(options.work, "peers", partial(drift_peers.measure_peers, options.peers))
    pictures = load_or_measure(
        options.work, f"pictures-{options.trials}", partial(drift_pictures.measure_alarms, options.trials)
    )
    results = measure_worlds(options.seeds, options.days, options.jobs, options.work)
    table, rule_table = build_figures(results, pictures | {"trials": options.trials}, speed), compare_rules(results)
    print_table("Figures", table)
    print_table("Rules on the same windows", rule_table)
    print_table("Others on the same table", peers)
    write_report(options.out, figures=table, rules=rule_table, peers=peers, speed=speed, worlds=results)


if __name__ == "__main__":
    main()
