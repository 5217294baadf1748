"""The drift monitor against the generator's truth: false alarms, power, delay, speed and memory, beside other rules.

``python -m benchmarks.drift --work FOLDER`` keeps what each part gave, so that a stopped benchmark goes on.
``--peers PYTHON`` names an interpreter that has Evidently and NannyML: they do not resolve beside LightGBM 4.7, so they need
a place of their own, ``uv venv P && uv pip install --python P/bin/python evidently nannyml polars pyarrow 'pandas<3'``.
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

from benchmarks.runs import ROOT, show, write

if TYPE_CHECKING:
    pass

BATCH = 1 << 16
METRICS = ("pr_auc", "roc_auc")
PICTURES = {"clean": "<= 1%", "subtle noise": ">= 0.6", "brightness": ">= 0.95", "prior shift": ">= 0.5"}


def world(seed: int, judged: int) -> dict[str, Any]:
    """All trials of a world."""
    from benchmarks import drift_trials as trials
    from benchmarks.drift_days import Days

    days, began = Days(seed, judged), time.monotonic()
    windows = days.clean()
    found = {
        "clean": trials.clean(days, windows),
        "amount 1.05": trials.delay(days, windows, "amount", 1.05, 3, 1),
        "amount 1.03": trials.delay(days, windows, "amount", 1.03, 10, 6),
        "amount-ramp 1.10": trials.delay(days, windows, "amount-ramp", 1.10, 50, 14),
        "online 0.05": trials.delay(days, windows, "online", 0.05, 20, 4),
        "faults": trials.faults(days, 10),
        "fraud rate 1.5": trials.fraud_rate(days, 1.5, 3),
        "concept 0.5": trials.concept(days, 0.5, 10),
        "estimates": trials.estimated(days),
    }
    return json.loads(json.dumps(found, default=float)) | {"seconds": time.monotonic() - began}


def kept(work: Path | None, name: str, measure: Callable[[], Any]) -> Any:
    """What is measured, or what was, where ``work`` has it."""
    path = work / f"{name}.json" if work else None
    if path and path.exists():
        return json.loads(path.read_text())
    found = measure()
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
    return found


def worlds(seeds: Sequence[int], judged: int, jobs: int, work: Path | None) -> list[dict[str, Any]]:
    """Each seed's trials."""
    # Spawned, since Polars' threads do not survive a fork.
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool, ThreadPoolExecutor(jobs) as threads:
        there = [f"world-{seed}-{judged}" for seed in seeds]
        wait = [lambda seed=seed: pool.submit(world, seed, judged).result() for seed in seeds]
        return list(threads.map(kept, [work] * len(seeds), there, wait))


def streamed(rows: int) -> dict[str, float]:
    """Rows a CPU second of profiling a stream of so many rows, and the process' peak memory in MiB."""
    import resource

    from benchmarks.drift_table import random_table
    from serving.drift.profiles import bins
    from serving.drift.profiles.profile import Profile

    parts = [random_table(BATCH, seed) for seed in range(4)]
    counted = bins.fit(parts[0])
    began = time.process_time()
    whole = Profile.stream(counted, (parts[at % 4] for at in range(rows // BATCH)))
    spent = time.process_time() - began
    most = max(len(json.dumps(one)) for one in json.loads(whole.to_bytes())["columns"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": whole.rows, "rows_per_s": whole.rows / spent, "peak_mib": peak, "bytes_a_column": most}


def alone(call: str) -> Any:
    """A call of this module in a process of its own with one thread, so that its memory is its own."""
    code = f"import json; from benchmarks import drift; print(json.dumps(drift.{call}))"
    threads = {name: "1" for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | threads, cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"error: {call} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def lines(
    found: Sequence[dict[str, Any]], pictures: dict[str, float], speed: Sequence[dict[str, float]]
) -> list[dict[str, Any]]:
    """Figure, target and what was measured."""
    from benchmarks.drift_trials import LATE, SURE

    def all_of(name: str, part: str | None = None) -> np.ndarray:
        return np.concatenate([one[name][part] if part else one[name] for one in found])

    def rate(hits: np.ndarray) -> tuple[float, int]:
        return float(np.mean(hits)), len(hits)

    def middle(waits: np.ndarray) -> tuple[float, int]:
        return float(np.median(waits)), len(waits)

    def off(metric: str) -> list[float]:
        return [abs(e["estimate"] - e["realised"]) for one in found for e in one["estimates"] if e["metric"] == metric]

    fraud = (all_of("fraud rate 1.5", part) for part in ("drifted", "clean"))
    looks = all_of("concept 0.5", "drifted")
    concept = np.array([next((day for day, p in enumerate(one, 1) if p < SURE), LATE) for one in looks])
    first_ripe, ripe_clean = (rate(p <= 0.01) for p in fraud)
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
            for kind in found[0]["faults"]
        ),
        ("concept drift, most windows", "<= 9", float(concept.max()), len(concept)),
        ("concept, false alarms", "<= 1%", *rate(all_of("concept 0.5", "clean").min(axis=1) < SURE)),
        *((f"pictures, {name}", target, pictures[name], pictures["trials"]) for name, target in PICTURES.items()),
        *((f"estimated {name}, largest error", "<= 0.02", max(off(name)), len(off(name))) for name in METRICS),
        *((f"estimated {name}, mean error", "", float(np.mean(off(name))), len(off(name))) for name in METRICS),
        *((f"profile rows/s, {one['rows']:,} rows", ">= 1,000,000", one["rows_per_s"], 1) for one in speed),
        *((f"peak MiB, {one['rows']:,} rows", "<= 300", one["peak_mib"], 1) for one in speed),
        ("bytes a column", "<= 65,536", float(speed[0]["bytes_a_column"]), 1),
    ]
    return [
        {"figure": name, "target": target, "measured": value, "trials": int(count), "reached": _met(target, value)}
        for name, target, value, count in table
    ]


def _met(target: str, value: float) -> str:
    if not target:
        return ""
    sign, bound = target.split(" ", 1)
    number = float(bound.rstrip("%").replace(",", "")) / (100 if bound.endswith("%") else 1)
    return "yes" if (value >= number if sign == ">=" else value <= number) else "NO"


def rules(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Simple rules beside ours on the same windows: false alarms on clean ones, power at amount x1.05."""
    naive = np.concatenate([one["clean"]["rows as independent"] for one in found])
    ours = np.concatenate([one["clean"]["ours"] for one in found])
    power = np.concatenate([np.array(one["amount 1.05"]) == 1 for one in found])
    return [
        {"rule": "ours", "false alarms": float(ours.mean()), "power x1.05": float(power.mean())},
        {"rule": "same tests, rows as independent", "false alarms": float(naive.mean()), "power x1.05": "not measured"},
        {"rule": "always alarm", "false alarms": 1.0, "power x1.05": 1.0},
        {"rule": "never alarm", "false alarms": 0.0, "power x1.05": 0.0},
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--days", type=int, default=168, help="Judged days a seed.")
    parser.add_argument("--jobs", type=int, default=1, help="Worlds at a time; each takes about 2 GB.")
    parser.add_argument("--trials", type=int, default=300, help="Splits of the pictures.")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 100_000_000], help="Rows to stream.")
    parser.add_argument("--work", type=Path, help="Folder that keeps what was measured.")
    parser.add_argument(
        "--peers", default=sys.executable, help="Python that has evidently and nannyml, where there is one."
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/drift.json")
    told = parser.parse_args()
    from benchmarks import drift_peers, drift_pictures

    speed = [kept(told.work, f"speed-{rows}", partial(alone, f"streamed({rows})")) for rows in told.rows]
    peers = kept(told.work, "peers", partial(drift_peers.measured, told.peers))
    pictures = kept(told.work, f"pictures-{told.trials}", partial(drift_pictures.alarms, told.trials))
    found = worlds(told.seeds, told.days, told.jobs, told.work)
    table, beside = lines(found, pictures | {"trials": told.trials}, speed), rules(found)
    show("Figures", table)
    show("Rules on the same windows", beside)
    show("Others on the same table", peers)
    write(told.out, figures=table, rules=beside, peers=peers, speed=speed, worlds=found)


if __name__ == "__main__":
    main()
