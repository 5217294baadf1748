"""Measure the fraud pipeline stage by stage, and compare it with a plain script that does the same work.

    python -m benchmarks.pipeline [--rows 20000 200000 1000000] [--days 120] [--out benchmarks/results/pipeline.json]

For each size the data is generated once. Then ``showcase run fraud`` runs without a cache, the same command runs again
with everything cached, and ``benchmarks/bare`` does the work on the same data. Three times are compared:

- wall: the whole process, from start to exit;
- work: without imports, start-up and shutdown: for the pipeline from the start of the first stage to the end of the
  last, for the script the sum of its steps;
- CPU: seconds of all processes, which a busy machine affects least.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.runs import ROOT, write_report
from benchmarks.timed_process import MeasurementError, run_timed

SEED = 7
# The smallest size has too few frauds for the default gate, and a refused run has no push to time.
LEAST_PR_AUC = 0.0
# Steps of the script that do the work of each stage; its schema check is part of the step "statistics".
PEERS = {
    "CuratedSchema": (),
    "Resolver": (),
    "SpanExampleGen": ("read", "history"),
    "StatisticsGen": ("statistics",),
    "ExampleValidator": (),
    "DataGate": (),
    "Transform": ("transform",),
    "Trainer": ("train", "export"),
    "Baseline": ("baselines",),
    "Evaluator": ("evaluate",),
    "LiteExporter": ("lite",),
    "Normal": (),
    "ServingCheck": ("check",),
    "Pusher": ("push",),
}
# Rows that the last stages read, whatever the size; as in components/.
LITE_ROWS, CHECK_ROWS = 2048, 32


def main() -> None:
    """Measure each size, print its table and write the report after each."""
    # In a file, a table would be cut at 80 columns.
    options, console = _parse_arguments(), Console(width=None if sys.stdout.isatty() else 110)
    report: dict[str, Any] = {"days": options.days, "sizes": []}
    try:
        _warm_up(console)
        for rows in options.rows:
            report["sizes"].append(measure(rows, options.days, options.work, console))
            console.print(format_stages(report["sizes"][-1]))
            write_report(options.out, **report)
    except KeyboardInterrupt:
        console.print(f"Interrupted; {len(report['sizes'])} of {len(options.rows)} sizes were measured.")
        sys.exit(130)
    except (MeasurementError, OSError) as error:
        sys.exit(f"error: {error}")
    console.print(format_totals(report["sizes"]))


def measure(rows: int, days: int, work: Path, console: Console) -> dict[str, Any]:
    """Measure one size: the pipeline without a cache, the cached pipeline, and the script.

    Raises:
        MeasurementError: if one of them fails.
    """
    console.rule(f"{rows:,} rows over {days} days")
    data, home = generate_data(rows, days, work, console), work / f"home-{rows}"
    for stale in (home, work / "bare"):
        shutil.rmtree(stale, ignore_errors=True)
    load = os.getloadavg()[0]
    first = run_pipeline(data, home, console, "the pipeline without a cache")
    again = run_pipeline(data, home, console, "the cached pipeline")
    bare = run_bare_script(data, work / "bare", console)
    # In this order, since _describe_stages removes from first what is not reported.
    pipeline = _describe_stages(first, home, rows) | first
    return {
        "rows": rows,
        "load_before": load,
        "pipeline": pipeline,
        "cached": {name: again[name] for name in ("state", "wall", "cpu")},
        "bare": bare,
        "ratios": {name: pipeline[name] / bare[name] for name in ("wall", "work", "cpu", "peak_mb")},
    }


def generate_data(rows: int, days: int, work: Path, console: Console) -> Path:
    """Return the folder with data of that size; it is generated on first use."""
    folder = work / f"data-{rows}-{days}"
    if not (folder / "truth.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        console.print(f"generating {folder}", highlight=False)
        arguments = ["--rows", rows, "--days", days, "--seed", SEED, "--out", folder]
        run_timed(["-m", "cli.main", "generate", "fraud", *arguments], work / "generate.txt")
    return folder


def run_pipeline(data: Path, home: Path, console: Console, title: str) -> dict[str, Any]:
    """Run ``showcase run`` as a process, which prints its progress; return its times and facts."""
    console.print(title)
    arguments = ["--data", data, "--home", home, "--set", f"min_pr_auc={LEAST_PR_AUC}", "--json"]
    spent, out = run_timed(["-m", "cli.main", "run", "fraud", *arguments], home.with_suffix(".json"))
    run = json.loads(out)
    if run["state"] != "pushed":
        raise MeasurementError(f"the pipeline ended in state {run['state']}: {run['reason']}")
    return spent | {"state": run["state"], "id": run["id"], "facts": run["facts"]}


def run_bare_script(data: Path, out: Path, console: Console) -> dict[str, Any]:
    """Run ``benchmarks/bare`` as a process; return its times and its steps."""
    console.print("the bare script")
    arguments = ["--data", data, "--out", out, "--min-pr-auc", LEAST_PR_AUC]
    spent, text = run_timed(["-m", "benchmarks.bare", *arguments], out.with_suffix(".json"), quiet=True)
    script_report = json.loads(text)
    imports = script_report["seconds"].pop("imports")
    steps = {
        name: {
            "seconds": seconds,
            "rows": script_report["rows"][name],
            "rows_per_second": _compute_rate(script_report["rows"][name], seconds),
        }
        for name, seconds in script_report["seconds"].items()
    }
    results = {name: script_report[name] for name in ("splits", "epochs", "pr_auc", "baselines", "peak_mb")}
    return spent | results | {"imports": imports, "work": sum(script_report["seconds"].values()), "steps": steps}


def _describe_stages(run: dict[str, Any], home: Path, raw_rows: int) -> dict[str, Any]:
    """Return the stages with rows per second, and totals; remove from ``run`` what is not reported."""
    facts, splits = run.pop("facts"), read_split_rows(home, run["id"])
    stage_facts, epochs = json.loads(facts["stages"]), _read_epochs(home, run["id"])
    rows = {
        "SpanExampleGen": raw_rows,
        "StatisticsGen": sum(splits.values()),
        "Transform": splits["train"],
        "Trainer": splits["train"] * epochs,
        "Baseline": splits["train"],
        "Evaluator": splits["eval"],
        "LiteExporter": min(LITE_ROWS, splits["eval"]),
        "ServingCheck": CHECK_ROWS,
    }
    stages = {
        name: {
            "seconds": stage["seconds"],
            "peak_mb": stage["peak_mb"],
            "rows": rows.get(name, 0),
            "rows_per_second": _compute_rate(rows.get(name, 0), stage["seconds"]),
        }
        for name, stage in stage_facts.items()
    }
    ends = [stage["started"] + stage["seconds"] for stage in stage_facts.values()]
    return {
        "stages": stages,
        "splits": splits,
        "epochs": epochs,
        "pr_auc": json.loads(facts["metrics"])["pr_auc"],
        "work": max(ends) - min(stage["started"] for stage in stage_facts.values()),
        "peak_mb": max(stage["peak_mb"] for stage in stage_facts.values()),
    }


def read_split_rows(home: Path, run_id: str) -> dict[str, int]:
    """Return the number of examples of each split, as counted by StatisticsGen."""
    from tensorflow_metadata.proto.v0 import statistics_pb2

    examples_by_split = {}
    for path in sorted(
        Path(_read_outputs(home, run_id)["StatisticsGen"]["statistics"].uri).glob("Split-*/FeatureStats.pb")
    ):
        statistics = statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())
        examples_by_split[path.parent.name.removeprefix("Split-")] = int(statistics.datasets[0].num_examples)
    return examples_by_split


def _read_epochs(home: Path, run_id: str) -> int:
    folder = Path(_read_outputs(home, run_id)["Trainer"]["model_run"].uri)
    return len(json.loads((folder / "training.json").read_text())["curves"])


def _read_outputs(home: Path, run_id: str) -> dict[str, dict[str, Any]]:
    # This file has the name of the package, and the folder of a script comes first in its path.
    sys.path[0] = str(ROOT)
    from pipeline.metadata import store
    from pipeline.metadata.store_address import MetadataAddress

    return store.outputs(MetadataAddress.of(home), run_id)


def format_stages(size: Mapping[str, Any]) -> Table:
    """Return a table of stages and the script's steps; the ratio is the stage's time over the step's."""
    table = Table(title=f"{size['rows']:,} rows", title_justify="left", box=None, header_style="dim", pad_edge=False)
    table.add_column("stage")
    for name in ("seconds", "rows/s", "peak MB", "bare step", "seconds", "rows/s", "ratio"):
        table.add_column(name, justify="left" if name == "bare step" else "right")
    for name, stage in size["pipeline"]["stages"].items():
        steps = [size["bare"]["steps"][step] for step in PEERS.get(name, ())]
        table.add_row(name, *_format_cells(stage), f"{stage['peak_mb']:,.0f}", *_format_peer(name, stage, steps))
    for name, label in (("work", "without imports"), ("wall", "whole process"), ("cpu", "CPU seconds")):
        ours, bare = size["pipeline"][name], size["bare"][name]
        table.add_row(label, f"{ours:.1f}", "", "", "", f"{bare:.1f}", "", f"{ours / bare:.1f}", style="bold")
    return table


def _format_peer(name: str, stage: Mapping[str, float], steps: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    if not steps:
        return ("", "", "", "")
    seconds = sum(step["seconds"] for step in steps)
    both = {"seconds": seconds, "rows_per_second": _compute_rate(steps[0]["rows"], seconds)}
    ratio = f"{stage['seconds'] / seconds:,.1f}" if seconds >= 0.05 else ""
    return (" + ".join(PEERS[name]), *_format_cells(both), ratio)


def _format_cells(step: Mapping[str, float]) -> tuple[str, str]:
    rate = step["rows_per_second"]
    return f"{step['seconds']:.1f}", f"{rate:,.0f}" if rate else ""


def format_totals(sizes: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table with a line per size that compares the whole processes."""
    table = Table(title="Totals", title_justify="left", box=None, header_style="dim", pad_edge=False)
    columns = (
        "rows",
        "pipeline s",
        "again s",
        "bare s",
        "ratio",
        "without imports",
        "CPU",
        "peak MB",
        "bare MB",
        "PR-AUC",
        "bare PR-AUC",
    )
    for name in columns:
        table.add_column(name, justify="right")
    for size in sizes:
        ours, bare, ratios = size["pipeline"], size["bare"], size["ratios"]
        seconds = [f"{run['wall']:.1f}" for run in (ours, size["cached"], bare)]
        times = [f"{ratios[name]:.1f}" for name in ("wall", "work", "cpu")]
        memory = [f"{run['peak_mb']:,.0f}" for run in (ours, bare)]
        table.add_row(f"{size['rows']:,}", *seconds, *times, *memory, *(f"{run['pr_auc']:.3f}" for run in (ours, bare)))
    return table


def _warm_up(console: Console) -> None:
    """Import everything once, so that the first run does not have to read the libraries from disk."""
    console.print("importing the libraries once, to warm the disk cache")
    libraries = "keras, lightgbm, polars, ai_edge_litert.interpreter"
    code = f"import {libraries}, pipeline.graph, pipeline.outcome, pipeline.local.runner"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    if process.returncode:
        raise MeasurementError(f"the libraries cannot be imported: {process.stderr.strip().splitlines()[-1]}")


def _compute_rate(rows: float, seconds: float) -> float:
    return rows / seconds if seconds else 0.0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[20_000, 200_000, 1_000_000], help="Sizes of the data, in rows."
    )
    parser.add_argument("--days", type=int, default=120, help="Number of days that the rows cover.")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/pipeline.json", help="JSON to write.")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/benchmark", help="Folder for data and runs.")
    options = parser.parse_args()
    options.work, options.out = options.work.resolve(), options.out.resolve()
    return options


if __name__ == "__main__":
    main()
