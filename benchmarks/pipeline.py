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
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.pipeline_tables import compute_rate, format_stages, format_totals
from benchmarks.runs import ROOT, write_report
from benchmarks.timed_process import MeasurementError, run_timed

SEED = 7
# The smallest size has too few frauds for the default gate, and a refused run has no push to time.
LEAST_PR_AUC = 0.0
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
            "rows_per_second": compute_rate(script_report["rows"][name], seconds),
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
            "rows_per_second": compute_rate(rows.get(name, 0), stage["seconds"]),
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


def _warm_up(console: Console) -> None:
    """Import everything once, so that the first run does not have to read the libraries from disk."""
    console.print("importing the libraries once, to warm the disk cache")
    libraries = "keras, lightgbm, polars, ai_edge_litert.interpreter"
    code = f"import {libraries}, pipeline.graph, pipeline.outcome, pipeline.local.runner"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    if process.returncode:
        raise MeasurementError(f"the libraries cannot be imported: {process.stderr.strip().splitlines()[-1]}")


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
